"""The rounds of a clean stage: scan, repair, near-duplicates, profile, write, finish.

Each has tasks that any worker may do, in any order and more than once, and a merge of what they found, which makes the tasks
of the next. Texts pass through tasks alone: merges see keys, codes and counts, a few dozen bytes a row. A small source walks
the same rounds within one attempt.
"""
