//! The rules that the code obeys, and the tests that show each of them. Names of tests begin with the rule: `q11_…` shows Q11,
//! `never_1_7_…` shows Never 1 and Never 7. A test of the house fails for a rule without a test, for a test that is not
//! listed here, and for a citation of what is not defined here.
//!
//! `cargo nextest run -E 'test(/q11_/)'` runs the tests of one rule.
//!
//! # Rules. Each forbids an outage that an agent like this one could cause
//!
//! ## Q1 same-data
//! A rollback never changes which data is served: another data directory, cluster lineage, `--etcd-servers` or
//! `--etcd-prefix` than the one that ran last needs the operator. One exception: from an etcd whose store is empty or
//! foreign, lastgood returns to the recorded directory, if that directory is intact and at no lower revision than the
//! record. An etcd that comes up empty, foreign or as an older disk is a fault of its mount or its path, never a
//! restore: nothing is restarted onto it.
//! * `never_3_q1_anything_is_restarted_onto_other_data_or_learnt_from_them`
//! * `q1_a_candidate_on_an_empty_directory_fails_and_the_recorded_one_comes_back`
//! * `q1_a_copy_of_restored_data_is_an_older_disk_and_no_second_restore`
//! * `q1_a_disk_that_is_not_mounted_and_an_older_copy_are_held_and_nothing_is_lost`
//! * `q1_a_mistyped_path_goes_back_and_a_new_cluster_is_adopted`
//! * `q1_a_newer_copy_in_another_directory_is_told_from_data_that_were_moved`
//! * `q1_a_path_that_a_person_corrects_ends_it`
//! * `q1_a_pin_does_not_change_which_data_is_served`
//! * `q1_a_record_without_a_namespace_proves_nothing_by_itself`
//! * `q1_a_recorded_directory_that_is_older_or_another_is_not_gone_back_to`
//! * `q1_a_rollback_never_changes_which_data_is_served`
//! * `q1_each_evidence_tells_the_data_on_record_from_others`
//! * `q1_etcd_is_restarted_when_the_recorded_directory_is_back_under_its_path`
//! * `q1_what_cannot_be_told_is_held_and_stops_nobody`
//! * `q1_wrong_data_are_held_and_the_api_server_is_stopped_within_two_answers`
//!
//! ## Q2 membership-from-data
//! Cluster membership is read from etcd's data, never from flags: kubeadm writes `--initial-cluster` with only its own
//! member. lastgood never lets etcd start on an empty, unmounted or foreign directory.
//! * `q2_q10_the_api_server_is_stopped_once_around_a_change_of_the_only_etcd`
//! * `q2_no_etcd_is_put_over_an_empty_unmounted_or_foreign_directory`
//!
//! ## Q3 removed-stays-removed
//! A manifest that was moved away stays away. A deleted one returns after an announced grace, and only while the node
//! is still a master. After `kubeadm reset` the component is held.
//! * `q3_a_candidate_that_kubeadm_had_moved_away_vouches_for_nothing`
//! * `q3_a_deleted_etcd_comes_back_last_and_only_over_the_data_it_left`
//! * `q3_a_deleted_etcd_stays_away_while_its_data_is_worked_on`
//! * `q3_a_reset_node_is_left_alone`
//! * `q3_all_four_deleted_or_their_directory_come_back_after_the_longer_grace`
//! * `q3_all_four_deleted_wait_longer_and_a_reset_is_left_alone`
//! * `q3_an_etcd_that_kubeadm_had_moved_away_comes_back_only_over_the_data_that_it_left`
//! * `q3_another_cluster_that_a_person_made_is_adopted_and_nothing_is_stopped`
//! * `q3_what_a_person_moved_away_stays_away_until_they_want_it_back`
//! * `q3_what_kubeadm_may_not_have_moved_away_in_this_upgrade_stays_away`
//! * `q3_what_was_moved_away_or_went_unwitnessed_stays_away`
//! * `t21_q3_what_was_put_back_and_went_or_broke_while_paused_is_left`
//!
//! ## Q4 no-key-rollback
//! Private keys, EncryptionConfiguration and tokens are never rolled back. A kubeconfig with an embedded key returns
//! only if the present one cannot work and the stored certificate is valid and not older. Key material is bundled only
//! encrypted. After a renewal, what a healthy process has loaded is the new normal.
//! * `q4_a_kubeconfig_that_cannot_work_is_put_back_and_a_renewed_one_is_the_same_generation`
//! * `q4_a_kubeconfig_that_works_with_another_credential_is_left_and_named`
//! * `q4_after_a_renewal_and_a_restart_of_every_pod_all_is_cured_as_before`
//! * `q4_after_a_renewal_what_a_healthy_process_has_loaded_is_the_new_normal`
//! * `q4_changed_key_material_is_diagnosed_by_name`
//! * `q4_secrets_that_are_broken_or_gone_are_named_and_never_put_back_nor_kept`
//! * `q4_the_encryption_keys_of_the_api_server_s_manifest_are_compared_by_name`
//! * `q4_values_of_a_key_that_the_node_lacks_are_named_and_restored_only_when_that_is_accepted`
//! * `q4_what_is_secret_goes_with_the_keys_whatever_it_is_called`
//! * `q4_what_may_be_put_back_over_what`
//!
//! ## Q5 evidence-of-loading
//! Health proves only what the process has loaded: the process started after the last change of its manifest and of its
//! configuration files.
//! * `q5_a_process_has_read_only_what_stood_before_it_started`
//! * `q5_what_changed_without_a_newer_time_stands_since_it_was_noticed`
//! * `q5_what_is_newer_than_its_process_at_first_sight_is_unproven_and_replaces_nothing`
//! * `q5_what_no_process_has_read_is_called_unproven_and_says_what_would_prove_it`
//! * `q5_what_stands_beside_an_older_process_is_unproven`
//!
//! ## Q6 kubeadm-first
//! While kubeadm runs, lastgood only observes. Afterwards it judges what changed as one change set. No component is
//! left newer than its API server.
//! * `q6_an_upgrade_by_kubeadm_that_is_well_becomes_known_good_as_a_whole`
//! * `q6_an_upgrade_that_is_tried_again_and_fails_again_goes_back_again`
//! * `q6_an_upgrade_that_is_well_becomes_known_good_as_a_whole`
//! * `q6_candidates_that_are_newer_than_the_api_server_that_was_put_back_go_back_too_and_after_it`
//! * `q6_nothing_goes_back_with_the_api_server_while_paused_or_while_kubeadm_works`
//! * `q6_what_became_known_good_before_its_api_server_failed_goes_back_too`
//! * `q6_what_is_written_one_after_the_other_while_kubeadm_works_is_one_change_however_long_it_takes`
//! * `q6_what_stands_is_not_reverted_for_a_person_while_kubeadm_works`
//! * `q6_where_nothing_older_can_be_put_back_it_is_told_and_left_until_it_can`
//! * `q6_while_kubeadm_works_we_watch`
//! * `t21_q6_paused_or_while_kubeadm_works_nothing_is_healed_and_afterwards_it_is`
//!
//! ## Q7 removed-member
//! A member that somebody else removed does not rejoin by itself. The memory is bound to the machine ID; another host
//! name alone is a fault to report, not another machine.
//! * `q7_a_member_that_somebody_removed_is_not_helped_back`
//! * `q7_another_cluster_under_the_same_manifest_is_another_world_and_a_member_that_joined_anew_is_not`
//! * `q7_another_host_name_is_no_other_machine`
//! * `q7_the_state_of_another_machine_is_set_aside_unused`
//!
//! ## Q8 alive-is-not-restarted
//! Only failed liveness counts, never failed readiness. Sockets, webhooks and endpoints that a configuration names are
//! dependencies, not faults of the component.
//! * `q8_an_api_server_that_hangs_on_a_hung_etcd_is_not_the_one_that_is_restarted`
//! * `q8_what_works_at_something_or_waits_for_its_disk_is_left_to_the_kubelet`
//!
//! ## Q9 no-change-no-rollback
//! An earlier generation answers only a recent change (24 hours), and only one of the same minor version unless the
//! change was the upgrade.
//! * `q9_what_breaks_without_a_change_is_not_rolled_back`
//!
//! ## Q10 one-master-at-a-time
//! Where other masters exist, lastgood stops an etcd or API server that has not exited by itself only with live proof
//! that the others suffice, and only in its turn (by member ID).
//! * `q10_a_hung_api_server_is_stopped_where_an_address_elsewhere_answers_meanwhile`
//! * `q10_a_hung_etcd_is_stopped_where_the_others_prove_that_they_do_without_it_and_in_its_turn`
//! * `q10_a_hung_member_is_restarted_while_the_others_suffice_and_is_left_when_they_do_not`
//! * `q10_an_earlier_sandbox_is_stopped_only_where_the_others_suffice_without_it`
//! * `q10_masters_that_begin_at_once_take_their_turns_by_id`
//! * `q10_q15_a_member_that_fails_after_the_plan_was_agreed_to_ends_the_defragmentation`
//! * `q2_q10_the_api_server_is_stopped_once_around_a_change_of_the_only_etcd`
//! * `q10_where_other_masters_serve_nobody_is_stopped`
//! * `q10_whoever_does_not_know_whether_other_masters_exist_leaves_it_to_the_kubelet`
//!
//! ## Q11 never-without
//! Before a manifest is taken out, its successor is synced to disk in staging. Any start of the agent, and the unit's
//! ExecStopPost, completes the replacement.
//! * `never_1_q11_killed_at_every_open_and_write_no_manifest_is_lost_or_torn`
//! * `never_1_q11_killed_at_every_rename_link_and_sync_no_manifest_is_lost_or_torn`
//! * `never_1_q11_what_is_withheld_or_set_aside_is_lost_at_no_call`
//! * `q11_a_manifest_that_was_taken_out_comes_back_beside_newer_state`
//! * `q11_a_memory_of_an_earlier_version_in_the_middle_of_a_replacement_goes_on_in_it`
//! * `q11_a_replacement_of_version_2_keeps_its_purpose`
//! * `q11_a_replacement_of_version_2_keeps_its_stage_and_what_was_seen_in_it`
//! * `q11_a_stopped_api_server_is_put_back_at_its_deadline_whatever_becomes_of_etcd`
//! * `q11_a_slot_that_an_earlier_restore_left_empty_is_filled_at_the_end_of_the_next`
//! * `q11_a_slot_that_was_filled_while_the_agent_was_away_ends_the_rollback`
//! * `q11_after_a_downgrade_the_manifest_is_back_and_the_newer_memory_stays`
//! * `q11_after_an_upgrade_the_rollback_goes_on_and_the_memory_is_lifted`
//! * `q11_an_emptied_slot_is_filled_by_fill_slots_with_the_agent_dead_and_no_memory`
//! * `q11_an_emptied_slot_is_filled_with_the_same_etcd_whatever_its_data_look_like`
//! * `q11_an_empty_slot_is_filled_from_staging_alone`
//! * `r9_q11_an_emptied_slot_is_not_filled_with_an_etcd_that_is_older_than_its_data`
//!
//! ## Q12 fair-quarantine
//! Quarantine is keyed by the decoded pod and its files, and follows only from its own faults. Faults of image, port,
//! disk, address, registry, runtime, kubelet or a dependency do not count.
//! * `q12_a_back_off_that_a_component_earned_by_itself_is_left`
//! * `q12_a_candidate_whose_port_is_taken_is_rolled_back_and_not_quarantined`
//! * `q12_an_address_counts_against_the_candidate_that_brought_it_and_no_other`
//! * `q12_data_that_no_etcd_starts_over_are_no_fault_of_a_candidate_and_nothing_is_stopped_for_them`
//! * `q12_one_crash_proves_only_what_no_other_attempt_can_cure`
//! * `q12_the_same_quarantined_content_three_times_is_held_until_a_person_resumes_or_writes_another`
//! * `q12_the_same_quarantined_content_written_three_times_is_held`
//! * `q12_what_a_person_vouches_for_is_not_quarantined_any_more`
//!
//! ## Q13 dependents-matter
//! A dependency is probed with the credentials that its dependents use. A dependent that breaks during its
//! dependency's probation counts against that candidate, unless it has its own cause: a signal, a stall, back-off, its
//! own change.
//! * `q13_a_crash_loop_that_began_before_the_change_is_not_held_against_it`
//! * `q13_a_dependent_that_is_stopped_hung_or_killed_is_not_held_against_a_good_candidate`
//! * `q13_a_dependent_that_was_unwell_before_the_agent_started_is_no_evidence`
//! * `q13_a_dependent_whose_trouble_comes_from_around_it_is_not_harmed`
//! * `q13_a_harmful_candidate_goes_whatever_else_happens_to_its_dependents`
//! * `q13_an_api_server_that_refuses_its_dependents_counts_against_the_api_server_that_changed`
//! * `q13_an_etcd_that_its_api_server_cannot_use_counts_against_the_etcd_that_changed`
//! * `q13_an_etcd_that_lets_nobody_in_is_not_unknown_but_failed`
//! * `q13_dependents_that_crash_again_and_again_under_a_healthy_candidate_count_against_it`
//! * `q13_what_is_evidence_against_a_dependency_and_what_is_not`
//!
//! ## Q14 observed-time
//! Soak time, deadlines and budgets accrue only between consecutive passes, on the boot clock.
//! * `q14_a_candidate_keeps_its_remaining_time_over_a_restart_and_gaps_earn_nothing`
//! * `q14_time_in_which_it_was_stopped_proves_nothing_and_a_second_agent_is_refused`
//! * `q14_what_was_deleted_in_a_gap_that_nobody_watched_stays_away`
//!
//! ## Q15 recheck-before-acting
//! Each step reads again what the decision relied on, and refuses if it changed.
//! * `q10_q15_a_member_that_fails_after_the_plan_was_agreed_to_ends_the_defragmentation`
//! * `q15_a_kubelet_whose_configuration_changed_since_it_started_is_not_restarted`
//! * `q15_a_successor_whose_image_is_gone_empties_no_slot`
//! * `q15_the_kubelet_is_restarted_only_as_it_was`
//! * `q15_what_changed_since_it_was_looked_at_is_left_for_the_next_pass`
//!
//! ## Q16 the-kubelet-decides
//! What the kubelet accepts, runs or refuses is the fact; lastgood's own parser and validation only predict it. The
//! kubelet's last messages are read before anything is blamed.
//! * `q16_a_line_about_an_earlier_write_or_another_file_proves_nothing`
//! * `q16_nothing_is_undone_before_the_kubelet_has_shown_that_it_does_not_run_it`
//! * `q16_what_is_expected_to_be_refused_is_told_at_once_and_undone_only_like_any_other_candidate`
//! * `q16_what_the_kubelet_decodes_decodes_and_what_no_kubelet_decodes_is_surely_not_run`
//! * `q16_what_the_kubelet_refuses_comes_back_when_it_has_shown_that`
//! * `q16_what_the_kubelet_runs_and_lastgood_cannot_read_is_told_and_left_alone`
//! * `q16_what_the_kubelets_own_line_refuses_goes_at_once_and_in_place`
//!
//! ## Q17 say-the-cause
//! Every fault of the node that keeps a component from running (kubelet, runtime, sandbox, cgroup driver, address, host
//! name, mount, clock, certificate, swap, static path) is named with its evidence and next step, alike in status,
//! explain, doctor, journal and metrics. "The kubelet restarts it" is only said when it does.
//! * `q17_a_balancer_that_is_silent_is_reported_also_while_no_api_server_serves`
//! * `q17_a_kubelet_that_waits_at_a_silent_balancer_explains_what_has_no_pod`
//! * `q17_a_kubelet_whose_certificate_cannot_be_rotated_or_has_ended_gets_the_steps`
//! * `q17_a_probe_that_ends_a_healthy_container_is_reported_once_and_until_it_succeeds`
//! * `q17_a_process_that_has_an_older_certificate_is_reported_once_and_not_restarted`
//! * `q17_a_virtual_ip_that_its_pod_has_not_raised_is_named_with_what_it_waits_for`
//! * `q17_an_address_is_reported_when_it_goes_and_is_the_cause_of_all_that_end_for_it`
//! * `q17_the_probe_that_counts_an_alarm_comes_before_the_steps_against_the_alarm`
//! * `q17_what_a_kubelet_finds_at_its_next_start_is_reported_before_it`
//!
//! # Never
//!
//! ## Never 1 whole-manifests
//! Never a moment in which a crash, a full disk or a power cut leaves a partial or empty manifest, or loses a
//! known-good generation.
//! * `never_1_7_power_cuts_at_random_moments_of_adoption_trial_and_rollback_leave_everything_whole`
//! * `never_1_7_power_cuts_at_random_moments_of_an_etcd_replacement_leave_everything_whole`
//! * `never_1_a_disk_that_fails_at_any_call_leaves_the_old_manifest_or_the_new_one`
//! * `never_1_a_full_disk_leaves_the_old_manifest_or_the_new_one_whatever_room_is_left`
//! * `never_1_q11_killed_at_every_open_and_write_no_manifest_is_lost_or_torn`
//! * `never_1_q11_killed_at_every_rename_link_and_sync_no_manifest_is_lost_or_torn`
//! * `never_1_q11_what_is_withheld_or_set_aside_is_lost_at_no_call`
//!
//! ## Never 2 one-at-a-time
//! Never act on two generations of one component, or on two etcd members of one cluster, at once.
//! * `never_2_two_generations_of_one_component_are_acted_upon_at_once`
//!
//! ## Never 3 no-lost-write
//! Never lose an acknowledged write without the operator's recorded choice; never remove another machine's member.
//! * `never_3_another_state_is_served_by_our_own_wish`
//! * `never_3_q1_anything_is_restarted_onto_other_data_or_learnt_from_them`
//!
//! ## Never 4 keep-the-last
//! Never delete the last verified snapshot, the last known-good generation, or an etcd data directory: it is moved
//! aside.
//! * `never_4_a_pinned_generation_is_never_forgotten`
//! * `never_4_the_last_known_good_generation_or_a_pinned_one_is_let_go`
//!
//! ## Never 5 no-guess
//! Never act on Unknown, on one sample (an unreadable or conflicting file excepted), or on a cluster-wide symptom.
//! * `never_5_a_member_that_lags_and_has_no_quorum_is_not_the_past`
//! * `never_5_an_agreed_read_that_is_a_moment_older_than_the_status_beside_it_is_no_other_data`
//! * `never_5_one_answer_of_other_data_or_of_the_process_before_stops_nobody`
//! * `never_5_one_look_moves_nothing`
//! * `never_5_one_refused_connection_and_a_port_that_was_never_open_stop_nothing`
//! * `never_5_something_is_begun_on_the_word_of_a_runtime_that_cannot_be_asked`
//!
//! ## Never 6 never-fight
//! Never fight the operator: paused means paused, and what they deploy by hand is a candidate like any other.
//! * `never_6_a_person_puts_the_api_server_back_or_resumes_it_and_it_runs`
//! * `never_6_a_person_who_puts_another_file_in_during_a_rollback_is_not_fought`
//! * `never_6_something_is_begun_while_a_person_has_paused`
//!
//! ## Never 7 local-only
//! Never need the API server, a registry, a name server or another machine for the local work.
//! * `never_1_7_power_cuts_at_random_moments_of_adoption_trial_and_rollback_leave_everything_whole`
//! * `never_1_7_power_cuts_at_random_moments_of_an_etcd_replacement_leave_everything_whole`
//!
//! ## Never 8 only-root
//! Never let anyone but root on this node, or a peer with a certificate of the etcd CA that names a member, ask for an
//! act. Reading over the network happens only where it is configured.
//! * `never_8_a_person_reads_how_the_node_is_with_the_agent_running_and_stopped_and_only_root_does`
//! * `never_8_another_user_is_refused_with_a_sentence`
//! * `never_8_the_socket_is_for_its_owner_alone`
//!
//! ## Never 9 no-loops
//! Never loop: actions per hour are bounded, and the count outlasts a restart.
//! * `n23_never_9_a_flapping_fault_meets_bounded_actions_and_then_a_hold_over_restarts_too`
//!
//! # Safety: what several masters never do to each other
//!
//! ## S8 free-agent
//! An agent that is paused, that only observes, that holds its etcd or that knows another version is never moved by the agent
//! of another master.
//! * `s8_a_paused_agent_reports_that_and_is_moved_by_nothing_that_a_peer_sends`
//!
//! ## S9 hostile-peer
//! Whatever a peer sends: no panic, no wait without a deadline, no file written before it is authenticated and understood.
//! * `s9_a_damaged_report_is_no_panic`
//! * `s9_a_report_is_for_certificates_of_members_alone_and_also_for_expired_ones`
//! * `s9_clients_that_are_silent_or_hang_up_delay_nobody`
//! * `s9_hostile_answers_end_within_the_deadline`
//! * `s9_requests_that_are_wrong_are_refused_within_their_deadline`
//! * `s9_whatever_bytes_come_there_is_no_panic`
//!
//! # Promises that tests are named after
//!
//! ## R9 no-older-etcd
//! lastgood never starts an etcd that is older than the data it would open, and says which versions and why. The guard
//! holds before a rollback, a promotion, and the filling of an empty slot.
//! * `r9_a_request_for_an_etcd_that_is_older_than_its_data_is_refused_and_changes_nothing`
//! * `r9_a_request_for_an_older_etcd_that_may_open_the_data_is_granted_and_stops_the_newer_one_first`
//! * `r9_a_version_that_is_raised_while_the_older_etcd_is_on_its_way_turns_the_rollback_back`
//! * `r9_an_etcd_that_is_older_than_its_data_is_not_put_in_and_what_stood_comes_back`
//! * `r9_an_etcd_that_serves_stays_when_only_the_api_server_that_came_with_it_is_bad`
//! * `r9_an_older_etcd_that_is_refused_here_refuses_the_data_itself`
//! * `r9_an_upgrade_that_never_came_up_is_undone`
//! * `r9_an_upgrade_that_nobody_saw_serve_may_have_raised_the_version_all_the_same`
//! * `r9_an_upgrade_that_raised_the_version_and_then_broke_is_held`
//! * `r9_an_upgrade_that_served_and_raised_nothing_is_undone`
//! * `r9_data_that_cannot_be_read_are_no_reason_where_no_newer_etcd_ran`
//! * `r9_data_that_cannot_be_read_are_not_given_to_an_older_etcd`
//! * `r9_data_that_cannot_be_read_are_not_opened_by_an_older_etcd`
//! * `r9_data_that_cannot_be_read_for_a_moment_turn_no_rollback_back`
//! * `r9_data_whose_place_nobody_names_are_not_given_to_an_older_etcd`
//! * `r9_each_pair_of_binary_and_data`
//! * `r9_q11_an_emptied_slot_is_not_filled_with_an_etcd_that_is_older_than_its_data`
//! * `r9_the_same_image_is_put_back_whatever_it_is_called`
//! * `r9_what_act_refused_by_data_that_cannot_be_read_is_held`
//! * `r9_what_ran_in_between_counts_although_the_image_is_the_same_again`
//! * `t22_r9_an_etcd_3_5_that_never_came_up_becomes_3_4_again_over_the_same_data`
//! * `t22_r9_an_etcd_3_5_that_raised_the_version_and_broke_does_not_become_3_4_again`
//!
//! ## R15 certificates
//! Every certificate and kubeconfig of the node is watched; its end is announced in good time with the next step, and
//! an expired one is named as the cause and starts no rollback loop.
//! * `r15_a_certificate_is_told_of_once_at_each_threshold_and_after_its_end_with_the_next_step`
//!
//! ## R17 which-way-is-dead
//! The local API server, the load balancer's static pod and the endpoint that kubeconfigs name are distinguished.
//! * `r17_a_dead_balancer_is_told_from_a_dead_api_server`
//! * `r17_a_dead_way_to_the_api_server_explains_whoever_goes_that_way_while_the_local_one_serves`
//! * `r17_a_floating_address_that_goes_is_told_from_the_api_server_that_serves`
//!
//! # Scenarios taken over from the tests of earlier tools
//!
//! ## T4 deleted API server
//! The API server's manifest is deleted: it comes back and serves.
//! * `t4_a_deleted_api_server_comes_back_after_the_announced_grace_and_serves`
//! * `t4_a_deleted_manifest_comes_back_after_the_announced_grace`
//!
//! ## T7 full disk
//! The disk of the state directory is full: the agent starts, and its history stays readable.
//! * `t7_on_a_full_disk_the_agent_starts_and_its_history_stays_readable`
//!
//! ## T10 suspended control plane
//! etcd and the API server stall and recover: nothing is started twice.
//! * `t10_a_control_plane_that_hung_and_goes_on_is_not_started_a_second_time`
//!
//! ## T11 no overwriting
//! Files in the manifest directory that are not lastgood's stay untouched.
//! * `n11_t11_dot_files_and_files_that_are_nobodys_are_untouched`
//!
//! ## T21 pause
//! While paused, nothing is healed; afterwards it is.
//! * `t21_nothing_that_stands_still_is_restarted_while_paused`
//! * `t21_paused_means_paused`
//! * `t21_q3_what_was_put_back_and_went_or_broke_while_paused_is_left`
//! * `t21_q6_paused_or_while_kubeadm_works_nothing_is_healed_and_afterwards_it_is`
//!
//! ## T22 etcd upgrade
//! A failed etcd upgrade is undone for the manifest, never for the data; the storage version guards it.
//! * `t22_r9_an_etcd_3_5_that_never_came_up_becomes_3_4_again_over_the_same_data`
//! * `t22_r9_an_etcd_3_5_that_raised_the_version_and_broke_does_not_become_3_4_again`
//!
//! ## T23 one member lost
//! One member of three is lost: it is named, and the cluster's members stay as they are.
//! * `t23_n21_a_cluster_of_three_is_told_apart_and_nothing_is_done_about_it`
//! * `t23_n21_so_is_one_of_etcd_3_4`
//!
//! ## T33 killed agent
//! The agent is killed at every step of a replacement: the next one finishes it.
//! * `t33_killed_at_any_call_of_a_replacement_in_place_it_finishes_it`
//! * `t33_killed_at_any_call_of_a_replacement_in_two_steps_it_finishes_it`
//! * `t33_killed_at_any_call_of_an_etcd_replacement_with_the_api_server_stopped_it_finishes_it`
//! * `t33_killed_at_random_moments_of_a_rollback_it_finishes_it`
//!
//! # Scenarios of lastgood
//!
//! ## N1 bad flag
//! An unknown flag: the candidate is rolled back and quarantined, and the same file written again is rolled back
//! immediately.
//! * `n1_a_candidate_that_crashes_is_rolled_back_and_quarantined_and_reverted_when_written_again`
//! * `n1_an_unknown_flag_is_rolled_back_quarantined_and_reverted_at_once_when_written_again`
//! * `n1_an_unknown_flag_of_etcd_3_4_is_undone_behind_a_stopped_api_server`
//! * `n1_an_unknown_flag_of_etcd_3_5_is_undone_behind_a_stopped_api_server`
//!
//! ## N2 slow poison
//! A candidate starts, serves, and becomes unhealthy within its soak time: it is rolled back.
//! * `n2_a_candidate_that_answers_and_turns_bad_within_the_soak_is_rolled_back`
//! * `n2_a_candidate_that_serves_and_turns_bad_within_the_soak_is_rolled_back`
//!
//! ## N3 stopped etcd
//! An etcd that is stopped by a signal is classified as stalled and restarted only with patience.
//! * `n3_n4_a_hung_process_is_restarted_and_nobody_else_is`
//! * `n3_n4_a_power_cut_before_or_after_a_hung_process_is_restarted_ends_the_matter`
//!
//! ## N4 stopped API server
//! An API server that accepts connections and never answers: deadlines hold, and the passes go on.
//! * `n3_n4_a_hung_process_is_restarted_and_nobody_else_is`
//! * `n3_n4_a_power_cut_before_or_after_a_hung_process_is_restarted_ends_the_matter`
//!
//! ## N5 dead runtime
//! The container runtime does not answer: everything is Unknown, and nothing is changed.
//! * `n5_a_runtime_that_does_not_answer_moves_nothing`
//! * `n5_without_a_runtime_everything_is_unknown_though_it_answers`
//! * `n5_without_the_runtime_everything_is_unknown_and_nothing_is_moved`
//!
//! ## N6 refused credentials
//! An API server that answers 401 or 403 to lastgood is no outage.
//! * `n6_an_api_server_that_refuses_our_credentials_is_no_outage`
//!
//! ## N9 full disk while acting
//! A write fails because the disk is full: it is tried again, and succeeds when there is space.
//! * `n9_a_promotion_onto_a_full_disk_is_retried_and_succeeds_when_there_is_room_again`
//! * `n9_a_write_that_fails_is_wanted_again`
//! * `n9_with_its_state_directory_full_it_says_so_and_acts_when_there_is_room_again`
//!
//! ## N11 foreign files
//! Dotfiles and editors' files in the manifest directory stay untouched.
//! * `n11_t11_dot_files_and_files_that_are_nobodys_are_untouched`
//!
//! ## N12 inactive manifest edited by hand
//! It is kept and offered as a candidate, never silently overwritten.
//! * `n12_a_hand_edited_inactive_manifest_is_kept_and_offered`
//! * `n12_an_inactive_manifest_edited_by_hand_is_kept_offered_and_tried_on_request`
//! * `n12_an_inactive_manifest_is_published_byte_for_byte_and_a_hand_edited_one_is_left`
//!
//! ## N15 missing image
//! A known-good generation whose image is gone is reported before the outage.
//! * `n15_a_known_good_image_that_is_gone_is_said_before_the_outage`
//!
//! ## N16 expired certificate
//! It is named as the cause, and no rollback loop follows.
//! * `n16_a_certificate_out_of_its_dates_explains_whoever_goes_by_it`
//! * `n16_a_serving_certificate_that_a_candidate_brought_is_no_excuse`
//! * `n16_an_ended_serving_certificate_is_named_and_nothing_is_rolled_back`
//! * `n16_an_expired_certificate_that_a_candidate_brought_is_its_own_fault`
//! * `n16_nothing_is_rolled_back_for_an_expired_certificate_and_a_renewed_one_ends_the_truce`
//! * `n16_without_a_change_an_expired_certificate_is_named_and_nothing_loops`
//!
//! ## N17 NOSPACE
//! etcd's quota is used up: that is the named cause, and nothing is rolled back for it.
//! * `n17_nospace_is_the_named_cause_for_etcd_and_for_an_api_server_candidate_and_nothing_is_rolled_back`
//!
//! ## N18 taken port
//! Another process holds the port: it is named, and no generation is quarantined for it.
//! * `n18_a_foreign_listener_explains_only_whom_it_hits`
//! * `n18_a_foreign_process_on_the_port_is_diagnosed_and_nothing_thrashes`
//! * `n18_a_port_that_a_foreign_process_holds_is_named_and_nothing_is_quarantined_for_it`
//!
//! ## N20 interrupted upgrade
//! A power cut ends an upgrade: old or new, never half, and nothing newer than its API server.
//! * `n20_a_manifest_that_kubeadm_had_moved_away_comes_back_after_the_announced_grace`
//! * `n20_a_power_cut_between_kubeadms_two_renames_brings_the_old_manifest_back_after_its_grace`
//! * `n20_an_upgrade_that_a_power_cut_ends_is_undone_where_it_is_bad_and_kept_where_it_serves`
//! * `n20_an_upgrade_that_a_power_cut_ends_leaves_old_or_new_and_nothing_newer_than_its_api_server`
//!
//! ## N21 member without quorum
//! A partition leaves the local member without a leader: the cluster is named, and nothing is restarted.
//! * `n21_a_member_that_starts_without_a_quorum_names_the_cluster_at_once`
//! * `n21_a_member_without_a_leader_names_the_cluster_and_who_does_not_answer`
//! * `t23_n21_a_cluster_of_three_is_told_apart_and_nothing_is_done_about_it`
//! * `t23_n21_so_is_one_of_etcd_3_4`
//!
//! ## N23 flapping fault
//! A fault comes and goes: actions are bounded, then the component is held.
//! * `n23_a_kubelet_that_hangs_again_and_again_and_an_etcd_that_is_cut_off`
//! * `n23_a_manifest_that_flaps_is_held_after_a_few_actions_until_a_person_resumes`
//! * `n23_a_file_that_is_emptied_again_before_the_next_pass_meets_the_same_limit`
//! * `n23_hangs_that_come_and_go_meet_bounded_restarts_and_then_a_person`
//! * `n23_manifests_that_break_and_go_over_and_over_meet_bounded_writes_and_then_a_person`
//! * `n23_never_9_a_flapping_fault_meets_bounded_actions_and_then_a_hold_over_restarts_too`
//! * `n23_what_was_put_back_and_cannot_serve_yet_is_not_fought_over`
//!
//! ## N24 quick succession
//! Promote, roll back and promote within seconds: each of them starts.
//! * `n24_promoted_rolled_back_and_promoted_in_quick_succession_each_of_them_starts`
