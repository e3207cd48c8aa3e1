"""What a sequence is: the tokenizer, labels, the layout of cells, shards of tokens, training windows."""
