"""What preflight looks at, a topic each."""
