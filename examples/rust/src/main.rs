//! XOR with code generated from the .proto files: creates a model, trains it, predicts and checks the
//! gradients.
//!
//! cargo run -- HOST:PORT

use tonic::Code;
use tonic_types::StatusExt;

#[allow(clippy::all)]
mod protos {
    include!(concat!(env!("OUT_DIR"), "/protos.rs"));
}
use protos::backprop::v1 as pb;
use pb::training_service_client::TrainingServiceClient;

type Client = TrainingServiceClient<tonic::transport::Channel>;
type Failure = Box<dyn std::error::Error>;

fn tensor(raw: Vec<u8>, shape: &[i32], kind: pb::DataType) -> pb::Tensor {
    pb::Tensor {
        raw,
        shape: shape.to_vec(),
        data_type: kind as i32,
        byte_order: pb::ByteOrder::LittleEndian as i32,
        ..Default::default()
    }
}

/// Returns numbers as little-endian bytes, on every machine.
fn floats(numbers: &[f32], shape: &[i32]) -> pb::Tensor {
    let raw = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    tensor(raw, shape, pb::DataType::Float32)
}

/// Returns 200 points of a grid; the label is 1 if their coordinates have the same sign.
fn xor() -> pb::Batch {
    let (mut points, mut labels) = (Vec::new(), Vec::new());
    for row in 0..200 {
        let x = ((row / 10) as f32 + 0.5) / 10.0 - 1.0;
        let y = ((row % 10) as f32 + 0.5) / 5.0 - 1.0;
        points.extend([x, y]);
        labels.extend(i32::from(x * y > 0.0).to_le_bytes());
    }
    pb::Batch {
        inputs: Some(floats(&points, &[200, 2])),
        labels: Some(tensor(labels, &[200], pb::DataType::Int32)),
        ..Default::default()
    }
}

/// Follows a run to its end. Dropping the stream cancels the call, which ends the run.
async fn train(client: &mut Client, request: pb::TrainRequest) -> Result<pb::TrainingSummary, Failure> {
    use pb::training_event::Event;
    let mut run = client.train(request).await?.into_inner();
    let mut summary = None;
    while let Some(response) = run.message().await? {
        match response.event.and_then(|event| event.event) {
            Some(Event::Progress(progress)) => {
                let metrics = progress.metrics.unwrap_or_default();
                println!(
                    "iteration {:4}: loss {:.4}, accuracy {:.3}",
                    progress.iteration,
                    metrics.loss,
                    metrics.accuracy()
                );
            }
            Some(Event::Summary(last)) => summary = Some(last),
            _ => {}
        }
    }
    summary.ok_or_else(|| "the run has no summary".into())
}

fn model_of(units: &[i32]) -> pb::ModelSpec {
    let adam = pb::Adam { learning_rate: Some(0.01), ..Default::default() };
    pb::ModelSpec {
        input_size: 2,
        layers: units.iter().map(|&units| pb::Layer { units, ..Default::default() }).collect(),
        optimizer: Some(pb::Optimizer { kind: Some(pb::optimizer::Kind::Adam(adam)), ..Default::default() }),
        seed: 1,
        ..Default::default()
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let address = std::env::args().nth(1).ok_or("usage: cargo run -- HOST:PORT")?;
    // The default limit of a response is 4 MB; the parameters of a large model need more.
    let mut client = TrainingServiceClient::connect(format!("http://{address}"))
        .await?
        .max_decoding_message_size(256 << 20);

    let create = pb::CreateModelRequest { spec: Some(model_of(&[16, 2])), ..Default::default() };
    let model = client.create_model(create).await?.into_inner().model.ok_or("no model")?;
    println!("created {} with {} parameters", model.name, model.parameter_count);

    let config = pb::TrainingConfig {
        length: Some(pb::training_config::Length::Iterations(2000)),
        report_every: Some(500),
        ..Default::default()
    };
    let request = pb::TrainRequest {
        model: model.name.clone(),
        data: Some(xor()),
        config: Some(config),
        ..Default::default()
    };
    let summary = train(&mut client, request).await?;
    println!("{}", summary.stop_reason().as_str_name());

    let corners = floats(&[-0.5, -0.5, -0.5, 0.5, 0.5, -0.5, 0.5, 0.5], &[4, 2]);
    let ask = pb::PredictRequest { model: model.name.clone(), inputs: Some(corners), ..Default::default() };
    let classes = client.predict(ask).await?.into_inner().classes;
    println!("corners: {classes:?}");

    let check = pb::GradCheckRequest { model: model.name.clone(), batch: Some(xor()), ..Default::default() };
    let check = client.grad_check(check).await?.into_inner().result.ok_or("no result")?;
    let verdict = if check.passed { "PASSED" } else { check.explanation.as_str() };
    println!("gradients: {verdict}");

    let wrong = pb::CreateModelRequest { spec: Some(model_of(&[0])), ..Default::default() };
    let error = client.create_model(wrong).await.err().ok_or("a layer of no units was taken")?;
    // google.rpc.BadRequest in the status details.
    let fields = error.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    for violation in &fields {
        println!("{:?}: {}: {}", error.code(), violation.field, violation.description);
    }

    client.delete_model(pb::DeleteModelRequest { name: model.name, ..Default::default() }).await?;
    let accuracy = summary.metrics.unwrap_or_default().accuracy();
    if accuracy < 0.95 || classes != [1, 0, 0, 1] || !check.passed {
        return Err("the model did not learn XOR".into());
    }
    if error.code() != Code::InvalidArgument || fields.len() != 1 || fields[0].field != "spec.layers[0].units" {
        return Err("the error does not name its field".into());
    }
    Ok(())
}
