"""What scripts/structure knows of Rust."""
