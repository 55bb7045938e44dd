//! The conda work as plain functions.
