"""Routes of a stack that `make run` has started on a developer's machine: break it, and see it recover."""
