//! The wire: code generated from proto/, and conversions between it and the domain types.
