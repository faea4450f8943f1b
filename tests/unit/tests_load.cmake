hw_unit_test(load hw_core)
target_compile_definitions(test_load PRIVATE HW_IASL="${IASL}")
