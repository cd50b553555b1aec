//! The hub to embed.
