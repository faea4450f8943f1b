hw_unit_test(session hw_replay)
hw_unit_test(image hw_replay)

hw_unit_test(transcript hw_replay)
hw_unit_test(reserve hw_replay)
