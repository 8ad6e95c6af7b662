"""Jobs and the functions that they share: changes of our data, calls to the outside, and the transition table."""
