# SPDX-License-Identifier: Apache-2.0
# The library as others see it: one archive with the rooms of the core, exported as gateskip::gateskip, and the public
# headers. The rooms' own targets are not exported: they carry this project's warnings and source paths.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

add_library(gateskip_library STATIC)
foreach(room base tensor io text gate kernels model runtime sched)  # no public header leads to the server
  if(TARGET gs_${room})
    target_sources(gateskip_library PRIVATE $<TARGET_OBJECTS:gs_${room}>)
  endif()
endforeach()
# Nothing is compiled here, so nobody else says what language links it.
set_target_properties(gateskip_library PROPERTIES OUTPUT_NAME gateskip EXPORT_NAME gateskip LINKER_LANGUAGE CXX)
target_compile_features(gateskip_library INTERFACE cxx_std_20)
target_include_directories(gateskip_library INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                                      $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(gateskip_library INTERFACE fmt::fmt Threads::Threads
                                                 $<BUILD_INTERFACE:${UTF8PROC_LIBRARY}>
                                                 $<INSTALL_INTERFACE:gateskip::utf8proc>)
add_library(gateskip::gateskip ALIAS gateskip_library)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/gateskip)
install(TARGETS gateskip_library EXPORT gateskipTargets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/gateskip DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development)
install(EXPORT gateskipTargets NAMESPACE gateskip:: DESTINATION ${package_dir} COMPONENT development)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/gateskipConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/gateskipConfig.cmake INSTALL_DESTINATION ${package_dir})
# Before 1.0 a minor version may break the API.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/gateskipConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/gateskipConfig.cmake ${PROJECT_BINARY_DIR}/gateskipConfigVersion.cmake
        DESTINATION ${package_dir} COMPONENT development)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT development)
