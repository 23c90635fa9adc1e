"""Files of ours and of others: complete or absent, held by one process, digested, read or refused in a sentence."""
