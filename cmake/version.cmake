# Writes bp_version.h: cmake -DSOURCE_DIR=… -DVERSION=… -DOUTPUT=… -P version.cmake
find_program(GIT git)
set(commit "unknown")
if(DEFINED ENV{BACKPROP_COMMIT})
  set(commit "$ENV{BACKPROP_COMMIT}")
elseif(GIT)
  execute_process(COMMAND ${GIT} -C ${SOURCE_DIR} rev-parse --short=12 HEAD
                  OUTPUT_VARIABLE out OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET
                  RESULT_VARIABLE result)
  if(result EQUAL 0)
    set(commit ${out})
  endif()
endif()
file(WRITE ${OUTPUT}.new "// Written by the build.
#ifndef BP_VERSION_H_
#define BP_VERSION_H_

namespace backprop {

inline constexpr char kVersion[] = \"${VERSION}\";
inline constexpr char kCommit[] = \"${commit}\";

}  // namespace backprop

#endif  // BP_VERSION_H_
")
execute_process(COMMAND ${CMAKE_COMMAND} -E copy_if_different ${OUTPUT}.new ${OUTPUT})
