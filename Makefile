# The whole product in a few words: `make pilot` compares, `make test` tests. Nothing here needs a terminal.
#
#   make pilot                          the matched comparison on the embedded world -> runs/pilot/report.html
#   make setup TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"    choose PyTorch's build
#   make setup PYTHON=python3.12        choose the Python that the environment is made from

VENV ?= .venv
PYTHON ?=
TORCH ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
GL := $(VENV)/.gl

.PHONY: setup gl pilot decision forgetting video-dit-family vla-family classic-family test kills lint check backbones clean help

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -5; echo; echo "targets: setup gl pilot decision forgetting video-dit-family vla-family classic-family test kills lint check backbones clean"

setup: $(STAMP)

# Runs again only when what is installed changes; the editable installation follows the sources by itself.
# TORCH, if given, is installed first and then kept: its line is taken out of the constraints.
$(STAMP): pyproject.toml constraints.txt
	@python=$$(scripts/find_python.sh $(PYTHON)) && { [ -x $(BIN)/python ] || "$$python" -m venv $(VENV); }
	@echo "installing crossroads into $(VENV); the first time this takes some minutes"
	@sed $(if $(TORCH),'/^torch==/d','') constraints.txt > $(VENV)/constraints.txt
	$(if $(TORCH),@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH) </dev/null)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt -e '.[all,dev]' </dev/null
	@touch $(STAMP)

gl: $(GL)

$(GL): $(STAMP)
	@scripts/find_gl.sh $(BIN)/python > $(GL).partial && mv $(GL).partial $(GL)

pilot: $(STAMP) $(GL)
	MUJOCO_GL=$$(cat $(GL)) $(BIN)/crossroads pilot --profile laptop --out runs/pilot

decision: $(STAMP) $(GL)
	for design in labels video-loss grounding; do \
	  MUJOCO_GL=$$(cat $(GL)) $(BIN)/crossroads study $$design --out runs/study/$$design || exit; \
	done

# Every recipe on a video diffusion transformer: the same demonstrations, whole networks, the same steps, the same scenes.
FAMILY := fast_wam fast_wam_joint fast_wam_idm gigaworld_policy cosmos_policy dreamzero lingbot_va motus dit4dit
ACTS_UNIMAGINED := fast_wam gigaworld_policy dit4dit
FAMILY_DIR := runs/video-dit-family
FAMILY_STEPS ?= 400
FAMILY_TFLOP ?= 10

video-dit-family: $(STAMP) $(GL)
	[ -d $(FAMILY_DIR)/data ] || MUJOCO_GL=$$(cat $(GL)) $(BIN)/crossroads data record tabletop --out $(FAMILY_DIR)/data \
	  --families reach press --episodes 300
	[ -d $(FAMILY_DIR)/held-out ] || MUJOCO_GL=$$(cat $(GL)) $(BIN)/crossroads data record tabletop --out $(FAMILY_DIR)/held-out \
	  --families reach press --episodes 40 --seed 1000
	for recipe in $(FAMILY); do \
	  $(BIN)/crossroads train $$recipe --data $(FAMILY_DIR)/data --out $(FAMILY_DIR)/$$recipe --phase full \
	    --steps $(FAMILY_STEPS) --batch-size 8 || exit; \
	done
	MUJOCO_GL=$$(cat $(GL)) $(BIN)/crossroads eval $(FAMILY:%=--arm $(FAMILY_DIR)/%) --env tabletop --families reach press \
	  --trials 100 --out $(FAMILY_DIR)/eval
	for recipe in $(filter-out $(ACTS_UNIMAGINED),$(FAMILY)); do \
	  $(BIN)/crossroads video $(FAMILY_DIR)/$$recipe --data $(FAMILY_DIR)/held-out || exit; \
	done

# Every recipe on a vision-language model, for the same work of training: its expert on the frozen language model where
# it has one, else all of it at a lower rate; and what each can still say.
VLA_HEAD := pi0 smolvla groot_n17 pi05 baseline_ki groot_n15 vla_foundry xvla molmoact2
VLA_WHOLE := being_h05 openvla_oft pi0_fast openvla vlm2vla
VLA_DIR := runs/vla-family
VLA_SEED ?= 0
VLA_RUNS := $(VLA_DIR)/seed-$(VLA_SEED)
VLA_TRAIN = $(BIN)/crossroads train $$recipe --data $(VLA_DIR)/data --out $(VLA_RUNS)/$$recipe --batch-size 8 \
  --tflop $(FAMILY_TFLOP) --seed $(VLA_SEED)

vla-family: $(STAMP) $(GL)
	[ -d $(VLA_DIR)/data ] || MUJOCO_GL=$$(cat $(GL)) $(BIN)/crossroads data record tabletop --out $(VLA_DIR)/data \
	  --families reach press --episodes 300 --words
	[ -d $(VLA_DIR)/held-out ] || MUJOCO_GL=$$(cat $(GL)) $(BIN)/crossroads data record tabletop --out $(VLA_DIR)/held-out \
	  --families reach press --episodes 40 --seed 1000 --words
	for recipe in $(VLA_HEAD); do $(VLA_TRAIN) --phase head || exit; done
	for recipe in $(VLA_WHOLE); do $(VLA_TRAIN) --phase full --learning-rate 1e-4 || exit; done
	MUJOCO_GL=$$(cat $(GL)) $(BIN)/crossroads eval $(patsubst %,--arm $(VLA_RUNS)/%,$(VLA_HEAD) $(VLA_WHOLE)) --env tabletop \
	  --families reach press --trials 100 --videos 0 --out $(VLA_RUNS)/eval
	$(BIN)/crossroads language $(VLA_WHOLE:%=$(VLA_RUNS)/%) --data $(VLA_DIR)/held-out --questions 200 \
	  --out $(VLA_RUNS)/answers.json

# The systems that came before and between, for the same work of training each, in phases that follow each other where
# a system has them; a lower rate where a language model that was trained before is trained on.
CLASSIC := seer seer_auxiliary gr1 uwm uwm_current act mimic_video dreamvla pad vjepa2_ac vpp unipi diffusion_policy \
  diffusion_policy_transformer uva genima play_lmp hulc cloning
ON_WORDS := being_h07 vla_jepa
CLASSIC_DIR := runs/classic-family
CLASSIC_TRAIN = $(BIN)/crossroads train $$recipe --data $(CLASSIC_DIR)/data --batch-size 8

classic-family: $(STAMP) $(GL)
	[ -d $(CLASSIC_DIR)/data ] || MUJOCO_GL=$$(cat $(GL)) $(BIN)/crossroads data record tabletop --out $(CLASSIC_DIR)/data \
	  --families reach press --episodes 300
	for recipe in $(CLASSIC); do \
	  $(CLASSIC_TRAIN) --out $(CLASSIC_DIR)/$$recipe --phase full --tflop $(FAMILY_TFLOP) || exit; \
	done
	recipe=frozen_cloning; $(CLASSIC_TRAIN) --out $(CLASSIC_DIR)/$$recipe --phase head --tflop $(FAMILY_TFLOP)
	for recipe in $(ON_WORDS); do \
	  $(CLASSIC_TRAIN) --out $(CLASSIC_DIR)/$$recipe --phase full --tflop $(FAMILY_TFLOP) --learning-rate 3e-4 || exit; \
	done
	third=$$(awk 'BEGIN { print $(FAMILY_TFLOP) / 3 }'); \
	for recipe in lapa:quantiser:latent:action genie_lam:latent_actions:policy:dictionary; do \
	  set -- $$(echo $$recipe | tr : ' ') && recipe=$$1 && last= && shift && \
	  for phase in "$$@"; do \
	    $(CLASSIC_TRAIN) --out $(CLASSIC_DIR)/$$recipe-$$phase --phase $$phase --tflop $$third --learning-rate 3e-4 \
	      $${last:+--start $(CLASSIC_DIR)/$$recipe-$$last} || exit; \
	    last=$$phase; \
	  done; \
	done
	MUJOCO_GL=$$(cat $(GL)) $(BIN)/crossroads eval --env tabletop --families reach press --trials 100 --videos 0 \
	  $(patsubst %,--arm $(CLASSIC_DIR)/%,$(CLASSIC) frozen_cloning $(ON_WORDS) lapa-action genie_lam-dictionary) \
	  --out $(CLASSIC_DIR)/eval

forgetting: $(STAMP) $(GL)
	MUJOCO_GL=$$(cat $(GL)) $(BIN)/crossroads study forgetting --out runs/study/forgetting

TEST_WORKERS ?= 2

test: $(STAMP) $(GL)
	MUJOCO_GL=$$(cat $(GL)) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal </dev/null

# Conversions of demonstrations and builds of frame caches, killed at random moments: nothing half-written may be left
# that can be read. As many of each.
KILLS ?= 500

kills: $(STAMP)
	folder=$$(mktemp -d) && export OMP_NUM_THREADS=1 \
	&& $(BIN)/python tests/data/kill_conversions.py $(KILLS) $$folder/conversions \
	&& $(BIN)/python tests/data/kill_caches.py $(KILLS) $$folder/caches && rm -r $$folder

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python </dev/null

check: lint test

backbones: $(STAMP) $(GL)
	MUJOCO_GL=$$(cat $(GL)) $(BIN)/crossroads backbones

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis
