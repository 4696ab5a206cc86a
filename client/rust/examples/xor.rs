//! XOR: creates a model, trains it, predicts, checks the gradients, and shows an error.
//!
//! cargo run --example xor -- HOST:PORT

use backprop_client::v1::{Activation, Adam, Batch, Layer, ModelSpec};
use backprop_client::{Client, Code};

/// Returns 200 points of a grid; the label is 1 if their coordinates have the same sign.
fn xor() -> Batch {
    let points: Vec<[f32; 2]> = (0..200)
        .map(|row| [((row / 10) as f32 + 0.5) / 10.0 - 1.0, ((row % 10) as f32 + 0.5) / 5.0 - 1.0])
        .collect();
    let labels: Vec<i32> = points.iter().map(|[x, y]| i32::from(x * y > 0.0)).collect();
    Batch::with_labels(points, labels)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("usage: cargo run --example xor -- HOST:PORT")?;
    let client = Client::connect(address)?;

    let spec = ModelSpec::new(2)
        .with_layer(Layer::new(16).with_activation(Activation::Relu))
        .with_layer(Layer::new(2))
        .with_optimizer(Adam::new(0.01))
        .with_seed(1);
    let model = client.create_model(spec).await?;
    println!("created {} with {} parameters", model.name, model.parameter_count);

    let summary = client
        .train(&model.name, xor())
        .iterations(2000)
        .report_every(500)
        .on_progress(|progress| {
            let accuracy = progress.accuracy().unwrap_or_default();
            let (iteration, loss) = (progress.iteration, progress.loss());
            println!("iteration {iteration:4}: loss {loss:.4}, accuracy {accuracy:.3}");
        })
        .await?;
    println!("{}", summary.stop_reason().as_str_name());

    let corners = [[-0.5f32, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]];
    let classes = client.predict(&model.name, &corners).await?.classes;
    println!("corners: {classes:?}");

    let check = client.grad_check(&model.name, xor()).await?;
    println!("gradients: {}", if check.passed { "PASSED" } else { &check.explanation });

    let wrong = ModelSpec::new(2).with_layer(Layer::new(0));
    let error = client.create_model(wrong).await.err().ok_or("a layer of no units was taken")?;
    for violation in error.violations() {
        println!("{}: {}: {}", error.code(), violation.field, violation.description);
    }

    client.delete_model(&model.name).await?;
    if summary.accuracy() < Some(0.95) || classes != [1, 0, 0, 1] || !check.passed {
        return Err("the model did not learn XOR".into());
    }
    let fields: Vec<_> = error.violations().iter().map(|violation| &violation.field[..]).collect();
    if error.code() != Code::InvalidArgument || fields != ["spec.layers[0].units"] {
        return Err("the error does not name its field".into());
    }
    Ok(())
}
