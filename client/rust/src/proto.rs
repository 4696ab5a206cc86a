//! The code that build.rs generates.
#![allow(missing_docs, rustdoc::all, clippy::all, clippy::pedantic)]

include!(concat!(env!("OUT_DIR"), "/protos.rs"));
