"""An upstream that speaks the OpenAI API, for the demo and for tests; it needs no network and no key."""
