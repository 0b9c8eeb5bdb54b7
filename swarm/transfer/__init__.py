"""One transfer at work: sessions that pump bytes, a runner that performs what the brain decides."""
