"""What is watched while rewards rise: held-out evaluation, drift, hacking, copies."""
