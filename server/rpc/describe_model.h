// Encodes sessions as Model messages.
#ifndef BACKPROP_SERVER_RPC_DESCRIBE_MODEL_H_
#define BACKPROP_SERVER_RPC_DESCRIBE_MODEL_H_

#include "backprop/v1/model.pb.h"
#include "server/codec/model_codec.h"
#include "server/records/model_info.h"
#include "server/registry/catalogue.h"
#include "server/session/session.h"

namespace backprop::rpc {

// `activity` may be that of an earlier moment.
inline void DescribeModel(const session::Session& session,
                          const session::Session::Activity& activity, v1::Model* model) {
  codec::EncodeModel(
      {session.info(), session.network(), session.create_time(), session.durability(),
       session.ExpireTime(), activity.step, activity.active_run},
      model);
}

inline void DescribeModel(const registry::Description& description, v1::Model* model) {
  codec::EncodeModel(
      {description.info, *description.network, description.create_time, description.durability,
       description.expire_time, description.step, description.active_run},
      model);
}

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_DESCRIBE_MODEL_H_
