# Writes lib/text/templates/*.jinja into one C++ file, as a table of names and texts (lib/text/builtin_templates.h).
file(GLOB _templates CONFIGURE_DEPENDS "${CMAKE_CURRENT_LIST_DIR}/*.jinja")
list(SORT _templates)
set(_rows "")
foreach(_template IN LISTS _templates)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${_template}")
  get_filename_component(_name "${_template}" NAME_WE)
  file(READ "${_template}" _text)
  string(APPEND _rows "    {\"${_name}\", R\"jinja(${_text})jinja\"},\n")
endforeach()
set(ATELIER_TEMPLATES_CPP "${CMAKE_BINARY_DIR}/generated/builtin_templates.cpp")
file(CONFIGURE OUTPUT "${ATELIER_TEMPLATES_CPP}" @ONLY CONTENT [[
// Made by lib/text/templates/embed.cmake.
#include "text/builtin_templates.h"

namespace atelier::text {
namespace {
constexpr BuiltinTemplate kTemplates[] = {
@_rows@};
}  // namespace

std::span<const BuiltinTemplate> builtin_templates() { return kTemplates; }

}  // namespace atelier::text
]])
target_sources(atelier_text PRIVATE "${ATELIER_TEMPLATES_CPP}")
