"""The processes that the Procfile names. No other package imports them."""
