"""The screen: draws what the engine knows and takes keys. Nothing here is true by itself."""
