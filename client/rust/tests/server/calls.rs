//! Calls with one response, tensors, files, errors.

use std::time::{Duration, Instant};

use backprop_client::v1::{
    AdamW, Batch, CosineSchedule, DataType, Huber, Layer, ModelSpec, Optimizer, PredictOutput,
    Tensor,
};
use backprop_client::{Client, Code, Data, FileSource};
use ndarray::array;

use crate::support::{Server, small, weights, xor};

#[tokio::test]
async fn models_are_created_listed_and_deleted() {
    let server = Server::start().await;
    let client = server.client();
    assert!(client.health().await.unwrap());
    for id in ["a", "b", "c"] {
        let color = if id == "b" { "red" } else { "blue" };
        let model = client.create_model(small()).id(id).label("color", color).await.unwrap();
        assert_eq!(model.name, format!("models/{id}"));
        assert_eq!(model.parameter_count, 42);
    }
    let drawn = client.create_model(small()).ttl(Duration::from_secs(60)).await.unwrap();
    assert_eq!(drawn.ttl.unwrap().seconds, 60);
    client.delete_model(&drawn.name).await.unwrap();

    let names = |models: Vec<backprop_client::v1::Model>| {
        models.into_iter().map(|model| model.name).collect::<Vec<_>>()
    };
    let all = client.list_models().page_size(1).all().await.unwrap();
    assert_eq!(names(all), ["models/a", "models/b", "models/c"]);
    let page = client.list_models().page_size(2).await.unwrap();
    assert_eq!(page.models.len(), 2);
    let rest = client.list_models().page_token(page.next_page_token).await.unwrap();
    assert_eq!(names(rest.models), ["models/c"]);
    let red = client.list_models().label("color", "red").all().await.unwrap();
    assert_eq!(names(red), ["models/b"]);

    client.delete_model("a").await.unwrap();
    let error = client.get_model("a").await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::NotFound, "MODEL_NOT_FOUND"));
    assert_eq!(error.metadata()["model"], "models/a");
}

#[tokio::test]
async fn specs_arrive_as_they_were_built() {
    let server = Server::start().await;
    let client = server.client();
    let optimizer = Optimizer::from(AdamW::new(0.02))
        .with_schedule(CosineSchedule { total_steps: 50, ..Default::default() })
        .with_clip_norm(1.5);
    let spec = ModelSpec::new(3)
        .with_layer(Layer::new(4).with_dropout(0.25))
        .with_layer(Layer::new(1))
        .with_loss(Huber { delta: Some(2.0) })
        .with_optimizer(optimizer)
        .with_data_type(DataType::Float64)
        .with_feature_names(["x", "y", "z"])
        .with_standardized_inputs();
    let made = client.create_model(spec.clone()).id("a").await.unwrap().spec.unwrap();
    assert_eq!(made.loss, spec.loss);
    assert_eq!(made.optimizer.as_ref().unwrap().clipping, spec.optimizer.unwrap().clipping);
    assert_eq!(made.layers[0].dropout, Some(0.25));
    assert_eq!(made.data_type(), DataType::Float64);
    assert_eq!(made.feature_names, spec.feature_names);
    let error = client.predict("a", &[[1.0f64; 3]]).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::FailedPrecondition, "NOT_FITTED"));
}

#[tokio::test]
async fn every_wrong_field_is_named() {
    let server = Server::start().await;
    let client = server.client();
    let spec = ModelSpec::new(0).with_layer(Layer::new(0)).with_layer(Layer::new(2));
    let error = client.create_model(spec).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let fields: Vec<_> = error.violations().iter().map(|v| v.field.as_str()).collect();
    assert_eq!(fields, ["spec.input_size", "spec.layers[0].units"]);
    assert_eq!(error.violations()[1].description, "must be at least 1, got 0");
    assert_eq!(error.to_string().split(':').next(), Some("INVALID_ARGUMENT"));
}

#[tokio::test]
async fn requests_that_cannot_be_right_are_not_sent() {
    // Nothing listens here, and the client would wait for it for a minute.
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = unused.local_addr().unwrap().to_string();
    drop(unused);
    let client = crate::support::patient(&address);
    let start = Instant::now();
    let short = || Tensor::from_vec(&[2, 2], vec![1.0f32; 3]);
    let batch = || Batch::with_labels(short(), &[0, 1]);
    let field = |error: backprop_client::Error| {
        assert_eq!(error.code(), Code::InvalidArgument);
        error.violations()[0].field.clone()
    };
    assert_eq!(field(client.predict("a", short()).await.unwrap_err()), "inputs.raw");
    assert_eq!(field(client.step("a", batch()).await.unwrap_err()), "batch.inputs.raw");
    assert_eq!(field(client.evaluate("a", batch()).await.unwrap_err()), "data.inputs.raw");
    assert_eq!(field(client.grad_check("a", batch()).await.unwrap_err()), "batch.inputs.raw");
    assert_eq!(field(client.train("a", batch()).await.unwrap_err()), "data.inputs.raw");
    let validated = client.train("a", Data::dataset("d")).validation(batch());
    assert_eq!(field(validated.await.unwrap_err()), "validation.inputs.raw");
    let upload = client.upload_dataset("d", batch());
    assert_eq!(field(upload.await.unwrap_err()), "chunk.rows.inputs.raw");
    let uneven = Batch::with_labels(&[[1.0f32, 2.0]], &[0, 1]);
    let upload = client.upload_dataset("d", uneven);
    assert_eq!(field(upload.await.unwrap_err()), "chunk.rows.labels");
    let gradients = client.apply_gradients("a", [("layers[0].weights", short())]);
    assert_eq!(field(gradients.await.unwrap_err()), "gradients[0].tensor.raw");
    assert_eq!(field(client.get_model("").await.unwrap_err()), "name");
    assert_eq!(field(client.train("", xor(4)).await.unwrap_err()), "model");
    assert_eq!(field(client.watch("").await.unwrap_err()), "model");
    assert_eq!(field(client.restore_checkpoint("a", "").await.unwrap_err()), "name");
    assert_eq!(field(client.export_model("").to_bytes().await.unwrap_err()), "model");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn the_same_request_id_changes_nothing_twice() {
    let server = Server::start().await;
    let client = server.client();
    client.create_model(small()).id("a").await.unwrap();
    let first = client.step("a", xor(20)).request_id("once").await.unwrap();
    let again = client.step("a", xor(20)).request_id("once").await.unwrap();
    assert_eq!((first.step, again.step), (1, 1));
    assert_eq!(first.loss().to_bits(), again.loss().to_bits());
    let error = client.step("a", xor(10)).request_id("once").await.unwrap_err();
    assert_eq!(error.violations()[0].field, "request_id");
    // Without an id each call has its own.
    assert_eq!(client.step("a", xor(20)).await.unwrap().step, 2);
    assert_eq!(client.step("a", xor(20)).await.unwrap().step, 3);
}

#[tokio::test]
async fn an_unexpected_step_is_refused_with_the_current_one() {
    let server = Server::start().await;
    let client = server.client();
    client.create_model(small()).id("a").await.unwrap();
    client.step("a", xor(20)).expected_step(0).await.unwrap();
    let error = client.step("a", xor(20)).expected_step(0).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::Aborted, "STEP_MISMATCH"));
    assert_eq!(error.current_step(), Some(1));
}

#[tokio::test]
async fn gradients_are_half_a_step() {
    let server = Server::start().await;
    let client = server.client();
    for id in ["a", "b"] {
        client.create_model(small()).id(id).await.unwrap();
    }
    let gradients = client.compute_gradients("a", xor(20)).await.unwrap();
    assert_eq!(gradients.weight, 20.0);
    client.apply_gradients("a", gradients.gradients).expected_step(0).await.unwrap();
    client.step("b", xor(20)).await.unwrap();
    assert_eq!(weights(&client, "a").await, weights(&client, "b").await);
    assert!(client.grad_check("a", xor(20)).await.unwrap().passed);
    let evaluation = client.evaluate("a", xor(20)).top_k(1).await.unwrap();
    assert!(evaluation.classification.is_some());
    assert!(client.evaluate("a", xor(20)).summary_only().await.unwrap().classification.is_none());
}

#[tokio::test]
async fn arrays_travel_in_both_directions() {
    let server = Server::start().await;
    let client = server.client();
    let spec = small().with_data_type(DataType::Float64);
    client.create_model(spec).id("a").await.unwrap();
    let rows = array![[0.5f64, -0.25], [1.0, 2.0], [-3.0, 0.125]];
    let prediction = client.predict("a", &rows).await.unwrap();
    let probabilities = prediction.probabilities.unwrap().to_array2::<f64>().unwrap();
    assert_eq!(probabilities.dim(), (3, 2));
    // A view with other strides is the same rows.
    let columns = rows.t().to_owned();
    let same = client.predict("a", &columns.t()).await.unwrap();
    assert_eq!(same.probabilities.unwrap().to_array2::<f64>().unwrap(), probabilities);
    let logits = client.predict("a", &rows).outputs([PredictOutput::Logits]).await.unwrap();
    assert!(logits.probabilities.is_none());
    assert_eq!(logits.logits.unwrap().shape, [3, 2]);
}

#[tokio::test]
async fn large_tensors_keep_their_bits() {
    let server = Server::start().await;
    let client = server.client();
    let spec = ModelSpec::new(1250).with_layer(Layer::new(4000)).with_layer(Layer::new(2));
    client.create_model(spec).id("a").await.unwrap();
    let numbers: Vec<f32> = (0..5_000_000u32).map(|i| f32::from_bits(0x3c00_0000 | i)).collect();
    let sent = Tensor::from_vec(&[1250, 4000], numbers);
    let set = [("layers[0].weights", sent.clone())];
    client
        .set_parameters("a", set.into_iter().collect::<backprop_client::v1::Parameters>())
        .await
        .unwrap();
    let parameters = client.get_parameters("a").omit_optimizer_state().await.unwrap();
    let received = parameters.tensors[0].tensor.as_ref().unwrap();
    assert_eq!(received.shape, [1250, 4000]);
    assert!(received.raw == sent.raw, "the 20 MB differ");
}

#[tokio::test]
async fn checkpoints_restore_the_state() {
    let server = Server::start().await;
    let client = server.client();
    client.create_model(small()).id("a").await.unwrap();
    client.step("a", xor(20)).await.unwrap();
    let before = weights(&client, "a").await;
    let checkpoint = client.create_checkpoint("a", "start").await.unwrap();
    assert_eq!(checkpoint.name, "models/a/checkpoints/start");
    client.step("a", xor(20)).await.unwrap();
    assert_ne!(weights(&client, "a").await, before);
    assert_eq!(client.restore_checkpoint("a", "start").expected_step(2).await.unwrap(), 1);
    assert_eq!(weights(&client, "a").await, before);
    assert_eq!(client.list_checkpoints("a").all().await.unwrap().len(), 1);
    client.delete_checkpoint("a", "start").await.unwrap();
    assert!(client.list_checkpoints("a").all().await.unwrap().is_empty());
}

#[tokio::test]
async fn models_travel_as_files() {
    let server = Server::start().await;
    let client = server.client();
    client.create_model(small()).id("a").await.unwrap();
    client.train("a", xor(100)).iterations(20).await.unwrap();
    let path = server.directory.path().join("model");
    let bytes = client.export_model("a").to_file(&path).await.unwrap();
    let file = std::fs::read(&path).unwrap();
    assert_eq!(bytes, file.len() as u64);
    assert!(!server.directory.path().join("model.part").exists());
    assert_eq!(client.export_model("a").to_bytes().await.unwrap(), file);
    let mut written = Vec::new();
    client.export_model("a").to_writer(&mut written).await.unwrap();
    assert_eq!(written, file);

    let sources = [
        FileSource::from(path.clone()),
        FileSource::from(file.clone()),
        FileSource::reader(std::io::Cursor::new(file.clone())),
    ];
    for (i, source) in sources.into_iter().enumerate() {
        let copy = client.import_model(source).id(format!("copy{i}")).await.unwrap();
        assert_eq!(copy.step, 20);
        assert_eq!(weights(&client, &copy.name).await, weights(&client, "a").await);
    }
    let mut damaged = file;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let error = client.import_model(damaged).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let missing = server.directory.path().join("missing");
    let error = client.import_model(missing).await.unwrap_err();
    assert!(error.message().contains("missing"), "{error}");
    let error = client.export_model("nothing").to_file(&path).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(path.exists() && !server.directory.path().join("model.part").exists());
}

#[tokio::test]
async fn backups_are_restored_to_an_empty_server() {
    let server = Server::start().await;
    let client = server.client();
    client.create_model(small()).id("a").await.unwrap();
    client.step("a", xor(20)).await.unwrap();
    let backup = client.create_backup("").to_bytes().await.unwrap();
    let other = Server::start().await;
    let restored = other.client().restore_backup(backup.clone()).await.unwrap();
    assert_eq!(restored.models, 1);
    assert_eq!(weights(&other.client(), "a").await, weights(&client, "a").await);
    let error = client.restore_backup(backup).await.unwrap_err();
    assert_eq!(error.reason(), "NOT_EMPTY");
}

#[tokio::test]
async fn the_server_tells_about_itself() {
    let server = Server::start().await;
    let client = server.client();
    let status = client.server_status().await.unwrap();
    assert!(status.metrics.contains("# TYPE"));
    assert!(status.flags.is_empty());
    assert!(!client.server_status().full().await.unwrap().flags.is_empty());
    let service = "backprop.v1.TrainingService.writes";
    assert!(client.health().service(service).await.unwrap());
    let projects = client.list_projects().all().await.unwrap();
    assert_eq!(projects[0].name, "projects/default");
    assert_eq!(client.get_project("default").await.unwrap().name, "projects/default");
}

#[tokio::test]
async fn a_deadline_ends_a_call_that_gets_no_answer() {
    let server = Server::start().await;
    let client =
        Client::builder(&server.address).timeout(Duration::from_millis(300)).build().unwrap();
    client.create_model(small()).id("a").await.unwrap();
    server.freeze();
    for call in
        [client.step("a", xor(4)), client.step("a", xor(4)).timeout(Duration::from_millis(200))]
    {
        let start = Instant::now();
        let error = call.await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded);
        assert!(start.elapsed() < Duration::from_secs(3));
    }
}
