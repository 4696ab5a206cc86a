//! Runs: events, cancellation, deadlines.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use backprop_client::v1::{EarlyStopping, StopReason};
use backprop_client::{Client, Code, Data};
use futures_util::TryStreamExt;

use crate::support::{Server, slow, small, xor};

/// Waits for the end of the run of a model, which must come soon.
async fn end_of_run(client: &Client, model: &str) -> (StopReason, i64) {
    let watch = client.watch(model).timeout(Duration::from_secs(10));
    let summary = watch.await.unwrap();
    (summary.stop_reason(), summary.iterations)
}

#[tokio::test]
async fn events_come_as_a_stream() {
    let server = Server::start().await;
    let client = server.client();
    client.create_model(small()).id("a").await.unwrap();
    let run = client.train("a", xor(100)).iterations(200).report_every(50).start();
    let events: Vec<_> = run.try_collect().await.unwrap();
    assert!(events[0].started().is_some());
    assert_eq!(events[0].started().unwrap().total_iterations, 200);
    let progress: Vec<_> = events.iter().filter_map(|event| event.progress()).collect();
    assert!(progress.iter().any(|progress| progress.iteration == 50 && progress.loss() > 0.0));
    let summary = events.last().unwrap().summary().unwrap();
    assert_eq!((summary.stop_reason(), summary.step), (StopReason::Completed, 200));
    let sequences: Vec<_> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=events.len() as i64).collect::<Vec<_>>());
}

#[tokio::test]
async fn events_come_to_a_callback() {
    let server = Server::start().await;
    let client = server.client();
    client.create_model(small()).id("a").await.unwrap();
    let mut losses = Vec::new();
    let summary = client
        .train("a", xor(100))
        .epochs(50)
        .batch_size(25)
        .shuffle(true)
        .report_every(40)
        .validation_split(0.2)
        .early_stopping(EarlyStopping { patience: Some(1000), ..Default::default() })
        .on_progress(|progress| losses.push(progress.loss()))
        .await
        .unwrap();
    assert_eq!(summary.iterations, 200);
    assert!(losses.len() >= 5, "{losses:?}");
    assert!(summary.validation.is_some());
    assert!(summary.accuracy().is_some());
}

#[tokio::test]
async fn dropping_the_stream_stops_the_run() {
    let server = Server::start().await;
    let client = server.client();
    client.create_model(slow()).id("a").await.unwrap();
    let mut run = client.train("a", xor(2000)).iterations(1_000_000).start();
    for _ in 0..3 {
        run.next().await.unwrap().unwrap();
    }
    drop(run);
    let (reason, iterations) = end_of_run(&client, "a").await;
    assert_eq!(reason, StopReason::Cancelled);
    assert!(iterations < 1_000_000);
}

#[tokio::test]
async fn a_callback_that_breaks_stops_the_run() {
    let server = Server::start().await;
    let client = server.client();
    client.create_model(slow()).id("a").await.unwrap();
    let mut events = 0;
    let error = client
        .train("a", xor(2000))
        .iterations(1_000_000)
        .on_event(|_| {
            events += 1;
            if events == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Cancelled);
    assert_eq!(events, 3);
    assert_eq!(end_of_run(&client, "a").await.0, StopReason::Cancelled);
}

#[tokio::test]
async fn a_callback_that_panics_stops_the_run() {
    let server = Server::start().await;
    let client = server.client();
    client.create_model(slow()).id("a").await.unwrap();
    let train =
        client.train("a", xor(2000)).iterations(1_000_000).on_progress(|_| panic!("enough"));
    assert!(tokio::spawn(async move { train.await }).await.unwrap_err().is_panic());
    assert_eq!(end_of_run(&client, "a").await.0, StopReason::Cancelled);
}

#[tokio::test]
async fn a_detached_run_continues_without_its_call() {
    let server = Server::start().await;
    let client = server.client();
    client.create_model(slow()).id("a").await.unwrap();
    let mut run = client.train("a", xor(500)).iterations(200).detach().start();
    run.next().await.unwrap().unwrap();
    drop(run);
    assert_eq!(end_of_run(&client, "a").await, (StopReason::Completed, 200));
}

#[tokio::test]
async fn a_deadline_ends_a_run() {
    let server = Server::start().await;
    let client = server.client();
    client.create_model(slow()).id("a").await.unwrap();
    let start = Instant::now();
    let train = client.train("a", xor(2000)).iterations(1_000_000);
    let error = train.timeout(Duration::from_millis(500)).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(end_of_run(&client, "a").await.0, StopReason::Cancelled);
}

#[tokio::test]
async fn another_client_watches_and_stops_a_run() {
    let server = Server::start().await;
    let (client, other) = (server.client(), server.client());
    client.create_model(slow()).id("a").await.unwrap();
    let mut run = client.train("a", xor(2000)).iterations(1_000_000).report_every(1).start();
    let name = run.next().await.unwrap().unwrap().run;
    let mut watch = other.watch("a").run_name(&name).start();
    assert_eq!(watch.next().await.unwrap().unwrap().sequence, 1);
    let error = other.train("a", xor(4)).iterations(1).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::FailedPrecondition, "RUN_UNDER_WAY"));
    let stopped = other.stop_training("a").run_name(&name).await.unwrap();
    assert_eq!(stopped.run, name);
    assert_eq!(run.finish().await.unwrap().stop_reason(), StopReason::Stopped);
    assert_eq!(watch.finish().await.unwrap().stop_reason(), StopReason::Stopped);
}

#[tokio::test]
async fn runs_train_on_datasets() {
    let server = Server::start().await;
    let client = server.client();
    for id in ["a", "b"] {
        client.create_model(small()).id(id).await.unwrap();
    }
    let mut sent = Vec::new();
    let dataset = client
        .upload_dataset("points", xor(100))
        .chunk_rows(30)
        .feature_names(["x", "y"])
        .on_progress(|rows| sent.push(rows))
        .await
        .unwrap();
    assert_eq!((dataset.rows, dataset.input_size), (100, 2));
    assert_eq!(sent, [30, 60, 90, 100]);
    client.train("a", Data::dataset("points")).iterations(50).await.unwrap();
    client.train("b", xor(100)).iterations(50).await.unwrap();
    assert_eq!(
        crate::support::weights(&client, "a").await,
        crate::support::weights(&client, "b").await
    );
    assert_eq!(client.list_datasets().all().await.unwrap().len(), 1);
    let evaluation = client.evaluate("a", Data::dataset("datasets/points")).await.unwrap();
    assert_eq!(evaluation.metrics.unwrap().rows, 100);
    client.delete_dataset("points").await.unwrap();
    let error = client.get_dataset("points").await.unwrap_err();
    assert_eq!(error.reason(), "DATASET_NOT_FOUND");
}
