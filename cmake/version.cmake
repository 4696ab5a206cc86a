# Writes bp_version.h: cmake -DSOURCE_DIR=… -DVERSION=… -DOUTPUT=… -P version.cmake
find_program(GIT git)
set(commit "unknown")
if(NOT "$ENV{BACKPROP_COMMIT}" STREQUAL "")
  set(commit "$ENV{BACKPROP_COMMIT}")
elseif(GIT)
  execute_process(COMMAND ${GIT} -C ${SOURCE_DIR} rev-parse --short=12 HEAD
                  OUTPUT_VARIABLE out OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET
                  RESULT_VARIABLE result)
  if(result EQUAL 0)
    set(commit ${out})
  endif()
endif()
# Without git, as in the build of the image: HEAD is a commit, or names a file or a line of
# packed-refs that contains the commit.
if(commit STREQUAL "unknown" AND EXISTS ${SOURCE_DIR}/.git/HEAD)
  file(STRINGS ${SOURCE_DIR}/.git/HEAD head LIMIT_COUNT 1)
  if(head MATCHES "^ref: (.+)$")
    set(ref ${CMAKE_MATCH_1})
    set(head "")
    if(EXISTS ${SOURCE_DIR}/.git/${ref})
      file(STRINGS ${SOURCE_DIR}/.git/${ref} head LIMIT_COUNT 1)
    elseif(EXISTS ${SOURCE_DIR}/.git/packed-refs)
      file(STRINGS ${SOURCE_DIR}/.git/packed-refs lines)
      foreach(line IN LISTS lines)
        string(REGEX MATCH "^([0-9a-f]+) ${ref}$" found "${line}")
        if(found)
          set(head ${CMAKE_MATCH_1})
        endif()
      endforeach()
    endif()
  endif()
  if(head MATCHES "^[0-9a-f]+$")
    string(SUBSTRING ${head} 0 12 commit)
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
