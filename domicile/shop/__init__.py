"""A shop with customers of every country: what the demo serves, and the tests in small."""
