hw_unit_test(decode hw_exec)
hw_unit_test(dbt_decode hw_exec)
hw_unit_test(strings hw_exec)
