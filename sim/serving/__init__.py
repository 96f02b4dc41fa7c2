"""A server of a language model: requests, blocks of the cache, and the steps that they are put in."""
