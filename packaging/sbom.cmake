# Run by CPack between the installation into its temporary directory and the packaging: makes the
# SBOM of the package `backpropd`, puts it into the package and beside it.
set(root ${CPACK_TEMPORARY_DIRECTORY}/server)
set(sbom ${CPACK_PACKAGE_DIRECTORY}/backpropd.spdx.json)
execute_process(
  COMMAND python3 ${CPACK_BACKPROPD_SOURCE_DIR}/packaging/sbom --root ${root}
          --build ${CPACK_BACKPROPD_BUILD_DIR} --output ${sbom}
  COMMAND_ERROR_IS_FATAL ANY)
file(COPY ${sbom} DESTINATION ${root}/usr/share/doc/backpropd)
