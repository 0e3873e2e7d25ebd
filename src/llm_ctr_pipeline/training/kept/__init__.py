"""Which of the states that trainings leave are still wanted."""
