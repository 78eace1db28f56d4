"""The tokenize stage: a data set's texts to packed token streams for language models, and the tokenizer they are of."""
