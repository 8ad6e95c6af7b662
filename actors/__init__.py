"""Jobs and the functions that they share: changes of data, calls to the outside, the transition table."""
