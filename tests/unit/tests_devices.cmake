# The machine and its devices.
foreach(name snap bus vclock irqchips timers uart ports devices)
  hw_unit_test(${name} hw_core)
endforeach()
