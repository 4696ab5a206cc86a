#include "server/rpc/rows.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/codec/batch_codec.h"
#include "server/codec/names.h"
#include "server/engine/data.h"
#include "server/records/project.h"

namespace backprop::rpc {

void GetRows(Context* context, const std::shared_ptr<session::Session>& model,
             const RowsAsked& asked,
             absl::AnyInvocable<void(absl::StatusOr<session::RowsInUse>)> done) {
  const bool has_dataset = !asked.dataset.empty();
  if (asked.batch != nullptr && has_dataset) {
    return done(base::FieldError(
        asked.dataset_field, absl::StrCat("must not be set, because ", asked.field, " is given")));
  }
  if (has_dataset) {
    const auto id = codec::ParseDatasetName(asked.dataset_field, asked.dataset);
    if (!id.ok()) return done(id.status());
    const std::string scoped = records::ScopedId(records::ProjectOf(model->info().id), *id);
    return context->datasets->Use(scoped, model->info(), model->network(), asked.dataset_field,
                                  std::move(done));
  }
  if (asked.batch == nullptr && !asked.required) return done(session::RowsInUse());
  static const v1::Batch* const nothing = new v1::Batch();
  auto rows = codec::DecodeBatch(asked.batch != nullptr ? *asked.batch : *nothing, asked.field,
                                 model->network(), model->info(), context->limits());
  if (!rows.ok()) return done(rows.status());
  done(session::RowsInUse{std::make_shared<const engine::Dataset>(*std::move(rows)), 0});
}

}  // namespace backprop::rpc
