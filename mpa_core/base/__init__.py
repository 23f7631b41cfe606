"""The interface of a base codec, the parts that bases share, and TinyLIC, the first base."""
