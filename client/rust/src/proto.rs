//! The code that build.rs generates.
#![allow(dead_code, missing_docs, rustdoc::all, clippy::all, clippy::pedantic)]

include!(concat!(env!("OUT_DIR"), "/protos.rs"));
