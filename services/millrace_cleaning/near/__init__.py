"""Near-duplicates over all parts of a source, by MinHash and locality-sensitive hashing, each pair verified exactly.

Work and merge take turns, and what passes between them is small:

1. of each part, `minhash.signatures`: band keys of every row, 168 bytes whatever the text's length;
2. over all parts, `lsh.candidates`: pairs of rows that share a band's key, and `lsh.candidate_rows`;
3. of each part, `verify.write_sets`: the shingles of those rows alone;
4. over all parts, `verify.similarities` of the pairs, and `clusters.clusters` of those that are similar enough.

Every result depends on the rows and their order alone, not on where the source was cut into parts.
"""
