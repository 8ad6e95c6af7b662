"""The engines: the processes that the Procfile names. Nobody imports them."""
