//! Empty for the moment the workspace is laid out.
