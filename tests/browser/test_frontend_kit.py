"""The frontend kit in a browser, in a page of another origin than the API's."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.makers import PASSWORD, address
from tests.node import project, run

# One of the origins that may call the API of a developer's stack. No server is there: the test answers.
ORIGIN = "http://localhost:5173"
PAGE = """<!doctype html><title>A shop</title><script type="importmap">{"imports": {
    "openapi-fetch": "/node_modules/openapi-fetch/dist/index.mjs",
    "eventsource-parser": "/node_modules/eventsource-parser/dist/index.js"}}</script>"""
TRANSPILE = """
const { readFileSync, writeFileSync } = require("fs"), ts = require("typescript");
const compilerOptions = { target: "es2022", module: "esnext" };
writeFileSync(process.argv[2], ts.transpileModule(readFileSync(process.argv[1], "utf8"), { compilerOptions }).outputText);
"""

SHOP = """async ([baseUrl, email, password]) => {
    const { createPaywright, storedTokens, newKey } = await import("/client.js");
    const tokens = storedTokens(sessionStorage);
    const paywright = createPaywright({ baseUrl, tokens });
    const { api, data } = paywright;
    await paywright.register({ email, password, name: "Jo" });

    const stop = new AbortController();
    const events = paywright.events({ signal: stop.signal });
    const first = events.next();
    const body = { type: "payment", amount: "12.50", metadata: { simulate: "slow" } };
    const params = { header: { Prefer: "wait=1", "Idempotency-Key": newKey() } };
    const { id } = await data(api.POST("/api/payments", { body, params }));
    const types = [];
    for (let next = await first; types.push(next.value.type) < 4; next = await events.next());
    stop.abort();

    await paywright.settled(id);
    const read = () => data(api.GET("/api/payments/{paymentId}", { params: { path: { paymentId: id } } }));
    const again = [await read(), await read()].map(({ status }) => status);

    // An access token that the API refuses is renewed, here by five requests at once.
    tokens.set({ ...tokens.get(), accessToken: "refused" });
    const lists = await Promise.all(Array.from({ length: 5 }, () => data(api.GET("/api/payments"))));

    const faulty = api.POST("/api/payments", { body: { type: "payment", amount: "1.234" } });
    const error = await data(faulty).catch(error => error);
    return { types, again, counts: lists.map(({ items }) => items.length), code: error.code, requestId: error.requestId };
}"""


@pytest.fixture
def page(browser, root, tmp_path):
    node = project(root, "tests/frontend", tmp_path)
    made = run(["node", "-e", TRANSPILE, root / "docs/frontend/client.ts", tmp_path / "client.js"], node)
    assert made.returncode == 0, made.stderr

    def answer(route):
        path = urlsplit(route.request.url).path.removeprefix("/")
        folder: Path = node if path.startswith("node_modules/") else tmp_path
        if path:
            route.fulfill(path=folder / path, content_type="text/javascript")
        else:
            route.fulfill(body=PAGE, content_type="text/html")

    # Chromium asks before a page that no local server has may call one.
    context = browser.new_context(permissions=["local-network-access"])
    page = context.new_page()
    page.route(f"{ORIGIN}/**", answer)
    page.goto(ORIGIN)
    yield page
    context.close()


def test_a_page_of_another_origin_pays_and_follows_its_payment(page, stack):
    answers: list[tuple[str, int]] = []
    page.on("response", lambda response: answers.append((urlsplit(response.url).path, response.status)))
    seen = page.evaluate(SHOP, [f"http://127.0.0.1:{stack.port}", address(), PASSWORD])
    assert [kind.removeprefix("payments:payment:") for kind in seen["types"]] == [
        *("created", "updated", "updated", "completed"),
    ]
    assert seen["again"] == ["completed"] * 2
    assert seen["counts"] == [1] * 5
    # Headers that a browser shows to a page only where the API says so.
    assert seen["code"] == "VALIDATION_ERROR"
    assert seen["requestId"]
    assert 304 in {status for path, status in answers if path.startswith("/api/payments/")}
    assert len([path for path, _ in answers if path == "/api/auth/refresh"]) == 1
