"""Network parts that any method's training may use."""
