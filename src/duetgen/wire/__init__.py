"""What cloud and device agree on: limits today, messages as the service arrives. Needs numpy and msgspec only."""
