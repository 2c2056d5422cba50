import beta

SEEN = beta.seen_alpha()
