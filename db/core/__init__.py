"""What every layer needs and none owns: settings, start, logging, request context, errors, time, money."""

VERSION = "0.8.0"
