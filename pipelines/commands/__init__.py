"""`ostinato`: one file a group of commands."""
