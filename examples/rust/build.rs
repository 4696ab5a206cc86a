// Needs protoc; Debian's package is protobuf-compiler.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    tonic_build::configure()
        .build_server(false)
        .include_file("protos.rs")
        .compile_protos(&["../../proto/backprop/v1/training_service.proto"], &["../../proto"])?;
    Ok(())
}
