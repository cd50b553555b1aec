//! The Server-Sent Events wire format.
