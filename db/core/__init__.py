"""What every layer needs and none owns: settings, logging, request context, errors, time, money."""

VERSION = "0.1.0"
