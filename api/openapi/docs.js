// Shows the OpenAPI document. The access token is kept until the page is left, and nowhere else.

SwaggerUIBundle({
  dom_id: "#docs",
  url: "/api/openapi.json",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  filter: true,
  // The roles that may call an operation: `x-roles`.
  showExtensions: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
