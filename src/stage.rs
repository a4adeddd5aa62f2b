//! The arrows of the diagram.
