#include "server/metrics/server_metrics.h"

#include "absl/status/status.h"
#include "server/datasets/datasets.h"
#include "server/exec/compute_pool.h"
#include "server/metrics/page.h"
#include "server/metrics/process_metrics.h"
#include "server/records/run_events.h"
#include "server/registry/registry.h"
#include "server/rpc/call/authenticator.h"
#include "server/rpc/call/call_stats.h"
#include "server/rpc/call/overload_control.h"
#include "server/session/environment.h"
#include "server/store/store.h"

namespace backprop::metrics {
namespace {

void AddServer(const Sources& sources, Page* page) {
  page->Gauge("backprop_build_info", "1, with what runs as labels.");
  page->Add(1.0, {{"version", sources.version},
                  {"commit", sources.commit},
                  {"instruction_set", sources.instruction_set}});
  page->Gauge("backprop_serving", "1 while the server serves calls, 0 while it stops or cannot.");
  page->Add(sources.serving() ? 1.0 : 0.0);
}

// The authenticator is null if callers are anonymous.
void AddAccess(const Sources& sources, const rpc::Authenticator* authenticator, Page* page) {
  page->Counter("backprop_authentication_failures_total", "Calls whose caller is not known.");
  for (const rpc::AuthFailure failure : rpc::kAuthFailures) {
    page->Add(authenticator == nullptr ? 0 : authenticator->failures(failure),
              {{"reason", rpc::ReasonOf(failure)}});
  }
  page->Gauge("backprop_auth_file_in_use", "0 while the latest file of --auth-file is not in use.");
  page->Add(sources.auth_file_in_use && !sources.auth_file_in_use() ? 0.0 : 1.0);
  page->Counter("backprop_audit_lines_total", "Lines of the audit log.");
  page->Add(sources.audit_written ? sources.audit_written() : 0, {{"result", "written"}});
  page->Add(sources.audit_lost ? sources.audit_lost() : 0, {{"result", "lost"}});
}

void AddCalls(const rpc::CallStats& stats, Page* page) {
  page->Counter("backprop_requests_total", "Calls that have ended, by method, project and code.");
  for (const auto& ended : stats.ended()) {
    page->Add(ended.calls, {{"method", ended.method},
                            {"project", rpc::CountedProjectName(ended.project)},
                            {"code", absl::StatusCodeToString(ended.code)}});
  }
  page->Histogram("backprop_request_duration_seconds",
                  "Time of calls that have ended, from the request to the status.");
  for (const auto& method : stats.methods()) {
    page->AddTimes(method.times().values(), {{"method", method.name()}});
  }
  page->Gauge("backprop_requests_in_flight", "Calls that have begun and not ended.");
  for (const auto& method : stats.methods()) {
    page->Add(method.in_flight(), {{"method", method.name()}});
  }
  page->Counter("backprop_refusals_total",
                "Errors that callers got, by the reason in google.rpc.ErrorInfo.");
  for (const auto& [reason, count] : stats.reasons()) page->Add(count, {{"reason", reason}});
}

void AddOverload(const rpc::OverloadControl& overload, Page* page) {
  page->Gauge("backprop_active_calls", "Calls that count for --max-active-calls.");
  page->Add(overload.active_calls());
  page->Gauge("backprop_active_request_bytes", "Requests of these calls, except small ones.");
  page->Add(overload.request_bytes());
  page->Counter("backprop_overload_refusals_total",
                "Calls refused as OVERLOADED, by what was full or too slow.");
  for (const rpc::Overload what : rpc::kOverloads) {
    page->Add(overload.refused(what), {{"queue", rpc::NameOf(what)}});
  }
}

void AddWork(const session::Environment& environment, Page* page) {
  const session::WorkCounters& work = environment.work_counters;
  page->Counter("backprop_steps_total", "Optimiser steps that changed a model.");
  page->Add(work.steps_of_calls.value(), {{"source", "call"}});
  page->Add(work.steps_of_runs.value(), {{"source", "run"}});
  page->Counter("backprop_rows_total",
                "Rows that steps and runs trained on, or that were predicted.");
  page->Add(work.rows_of_calls.value(), {{"use", "step"}});
  page->Add(work.rows_of_runs.value(), {{"use", "run"}});
  page->Add(work.rows_predicted.value(), {{"use", "predict"}});
  page->Gauge("backprop_runs_active", "Training runs under way.");
  page->Add(environment.runs_under_way.load());
  page->Counter("backprop_runs_ended_total", "Training runs that have ended, by the reason.");
  for (size_t reason = 0; reason < work.runs_ended.size(); ++reason) {
    page->Add(work.runs_ended[reason].value(),
              {{"reason", records::NameOf(static_cast<records::StopReason>(reason))}});
  }
}

void AddPool(const exec::ComputePool& pool, Page* page) {
  struct Class {
    exec::Priority priority;
    Labels labels;
  };
  const Class classes[] = {{exec::Priority::kInteractive, {{"class", "interactive"}}},
                           {exec::Priority::kBackground, {{"class", "background"}}}};
  page->Gauge("backprop_pool_threads", "Threads of the compute pool.");
  page->Add(static_cast<int64_t>(pool.threads()));
  page->Counter("backprop_pool_busy_seconds_total",
                "Time that threads of the compute pool have worked; divided by the threads and the "
                "time it is the utilisation.");
  for (const Class& of : classes) {
    const auto nanos = static_cast<double>(pool.stats(of.priority).busy_nanos.value());
    page->Add(nanos / kNanosPerSecond, of.labels);
  }
  page->Histogram("backprop_pool_wait_seconds", "Time that tasks waited for a thread of the pool.");
  for (const Class& of : classes) page->AddTimes(pool.stats(of.priority).waits.values(), of.labels);
  page->Gauge("backprop_pool_waiting_tasks", "Tasks that wait for a thread of the pool.");
  for (const Class& of : classes) page->Add(pool.waiting(of.priority), of.labels);
}

void AddModels(registry::Registry* registry, Page* page) {
  page->Gauge("backprop_models", "Models of all projects, in memory or not.");
  page->Add(registry->size());
  page->Gauge("backprop_models_resident", "Models in memory.");
  page->Add(registry->resident());
  page->Histogram("backprop_model_load_seconds", "Time of each load of a model from the store.");
  page->AddTimes(registry->cache_stats().loads.values());
  page->Counter("backprop_model_evictions_total", "Models that were evicted from memory.");
  page->Add(registry->cache_stats().evictions.value());
}

void AddMemory(const session::Environment& environment, Page* page) {
  page->Gauge("backprop_memory_limit_bytes", "--memory-limit; 0 without one.");
  page->Add(environment.limits.memory_limit_bytes);
  page->Gauge("backprop_memory_models_bytes", "Counted memory of models.");
  page->Add(environment.memory.models());
  page->Gauge("backprop_memory_work_bytes", "Counted memory of runs, rows, requests and changes.");
  page->Add(environment.memory.work());
}

void AddStore(const store::Store& store, Page* page) {
  page->Gauge("backprop_store_healthy", "1 while changes can be stored, else 0.");
  page->Add(store.health().ok() ? 1.0 : 0.0);
  const store::StoreStats* const stats = store.stats();
  if (stats == nullptr) return;
  page->Histogram("backprop_store_commit_seconds",
                  "Time of changes from their commit until they are as durable as requested.");
  page->AddTimes(stats->commits.values());
  page->Histogram("backprop_store_sync_seconds", "Time of each fdatasync of the log.");
  page->AddTimes(stats->syncs.values());
  page->Histogram("backprop_store_group_changes", "Changes that were written together.");
  page->AddSizes(stats->group_sizes.values());
  page->Counter("backprop_store_refused_changes_total", "Changes that were not stored.");
  page->Add(stats->refused.value());
  page->Counter("backprop_store_written_bytes_total", "Keys and values of stored changes.");
  page->Add(stats->bytes.value());
  const store::DiskUse use = store.disk_use();
  page->Gauge("backprop_store_disk_bytes", "Disk space of the store: its tables and its log.");
  page->Add(use.tables, {{"part", "tables"}});
  page->Add(use.log, {{"part", "log"}});
  if (use.free < 0) return;
  page->Gauge("backprop_store_disk_free_bytes", "Free space of the disk of the data directory.");
  page->Add(use.free);
}

void AddDatasets(const datasets::Datasets& datasets, Page* page) {
  const auto counts = datasets.counts();
  page->Gauge("backprop_datasets", "Complete datasets.");
  page->Add(counts.complete);
  page->Gauge("backprop_uploads_active", "Datasets whose upload is not complete.");
  page->Add(counts.uploading);
  page->Counter("backprop_uploaded_rows_total", "Rows added to datasets.");
  page->Add(datasets.stats().rows.value());
  page->Counter("backprop_uploaded_bytes_total", "Bytes of the records added to datasets.");
  page->Add(datasets.stats().bytes.value());
}

void AddConnections(rpc::Listener* listener, Page* page) {
  page->Gauge("backprop_connections_open", "Open connections of clients.");
  page->Add(listener->open_connections());
  page->Counter("backprop_connections_accepted_total", "Connections that were accepted.");
  page->Add(listener->accepted());
  page->Counter("backprop_connections_refused_total", "Connections above a limit, closed at once.");
  page->Add(listener->refused());
}

}  // namespace

std::string Render(const Sources& sources) {
  const rpc::Context& context = *sources.context;
  session::Environment& environment = *context.environment;
  Page page;
  AddServer(sources, &page);
  AddCalls(*context.calls.stats(), &page);
  AddOverload(context.overload, &page);
  AddAccess(sources, context.authenticator, &page);
  AddWork(environment, &page);
  AddPool(*environment.pool, &page);
  AddModels(context.registry, &page);
  AddMemory(environment, &page);
  if (environment.store != nullptr) AddStore(*environment.store, &page);
  AddDatasets(*context.datasets, &page);
  if (sources.listener != nullptr) AddConnections(sources.listener, &page);
  AddProcess(&page);
  return page.Text();
}

}  // namespace backprop::metrics
