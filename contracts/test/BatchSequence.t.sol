// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {CloseItem, EndSignatures, IEscrow, PrepaidItem, StartItem, Terms} from "../src/IEscrow.sol";
import {Signing} from "./Signing.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Vm} from "forge-std/Vm.sol";

/// @notice I10: what a batch leaves behind, events and storage, is what its single calls leave behind, one by one.
contract BatchSequenceTest is Signing {
    uint256 private constant ITEMS = 6;

    uint256 private _seed;
    Terms[] private _picked;
    bytes[] private _singles;

    function setUp() public override {
        super.setUp();
        _prepay(renter, address(usdc), 3 * DEPOSIT);
        _prepay(renter, NATIVE, 3 * DEPOSIT);
    }

    function testFuzz_LockBatch_IsTheSequenceOfItsCalls(uint256 seed) public {
        _seed = seed;
        PrepaidItem[] memory items = new PrepaidItem[](ITEMS);
        for (uint256 i = 0; i < ITEMS; ++i) {
            Terms memory t = _randomTerms();
            if (_next(8) == 0) t.pricePerHour = 0;
            if (_next(8) == 0) t.startBy = T0 - 1;
            uint96 deposit = uint96(_next(2 * DEPOSIT));
            bytes32 digest = _prepaidDigest(t, deposit);
            bytes memory signature = _signature(_key(_next(5) == 0 ? "stranger" : "renter"), digest);
            items[i] = PrepaidItem(t, deposit, signature);
            _singles.push(abi.encodeCall(escrow.lockPrepaid, (t, deposit, signature)));
        }
        _compare(stranger, abi.encodeCall(escrow.lockBatch, (items)));
    }

    function testFuzz_StartBatch_IsTheSequenceOfItsCalls(uint256 seed) public {
        _seed = seed;
        _rentals(0);
        skip(800);
        StartItem[] memory items = new StartItem[](ITEMS);
        for (uint256 i = 0; i < ITEMS; ++i) {
            items[i] = StartItem(_picked[i], T0 + uint40(_next(1000)));
            _singles.push(abi.encodeCall(escrow.start, (items[i].terms, items[i].startedAt)));
        }
        _compare(operator, abi.encodeCall(escrow.startBatch, (items)));
    }

    function testFuzz_ReleaseBatch_IsTheSequenceOfItsCalls(uint256 seed) public {
        _seed = seed;
        _rentals(3);
        skip(_next(2000));
        for (uint256 i = 0; i < ITEMS; ++i) {
            _singles.push(abi.encodeCall(escrow.release, (_picked[i])));
        }
        _compare(stranger, abi.encodeCall(escrow.releaseBatch, (_picked)));
    }

    function testFuzz_CloseBatch_IsTheSequenceOfItsCalls(uint256 seed) public {
        _seed = seed;
        _rentals(3);
        skip(1500);
        bool isSigned = _next(2) == 0;
        CloseItem[] memory items = new CloseItem[](ITEMS);
        EndSignatures[] memory signatures = new EndSignatures[](isSigned ? ITEMS : 0);
        for (uint256 i = 0; i < ITEMS; ++i) {
            items[i] = CloseItem(_picked[i], T0 + 1 + uint40(_next(2000)), _next(2) == 0 ? 0 : uint32(_next(100)));
            EndSignatures memory s;
            bytes32 digest = _endDigest(items[i].terms, items[i].stoppedAt, items[i].creditSecs);
            if (isSigned && _next(2) == 0) s.renter = _signature(_key(_next(8) == 0 ? "other" : "renter"), digest);
            if (isSigned && _next(2) == 0) s.provider = _compact(_key(_next(8) == 0 ? "other" : "provider"), digest);
            if (isSigned) signatures[i] = s;
            _singles.push(abi.encodeCall(escrow.close, (items[i].terms, items[i].stoppedAt, items[i].creditSecs, s)));
        }
        _compare(operator, abi.encodeCall(escrow.closeBatch, (items, signatures)));
    }

    function testFuzz_FinalizeBatch_IsTheSequenceOfItsCalls(uint256 seed) public {
        _seed = seed;
        _rentals(4);
        skip(1500);
        for (uint256 i = 0; i < ITEMS; ++i) {
            uint256 fate = _next(4);
            vm.prank(fate == 0 ? renter : operator);
            (bool done,) = address(escrow)
                .call(
                    fate == 0
                        ? abi.encodeCall(escrow.contest, (_picked[i], 1 + uint32(_next(100))))
                        : abi.encodeCall(
                            escrow.close, (_picked[i], T0 + 1400, uint32(_next(100)), EndSignatures("", ""))
                        )
                );
            if (!done || fate != 1) continue;
            vm.prank(provider);
            (done,) = address(escrow).call(abi.encodeCall(escrow.dispute, (_picked[i])));
        }
        skip(_next(3) == 0 ? 24 hours + 1 : 15 days + 1);
        for (uint256 i = 0; i < ITEMS; ++i) {
            _singles.push(abi.encodeCall(escrow.finalize, (_picked[i])));
        }
        _compare(stranger, abi.encodeCall(escrow.finalizeBatch, (_picked)));
    }

    /// @dev Some rentals, some of them twice, some not there, and `outOf5` of 5 of the others running.
    function _rentals(uint256 outOf5) private {
        for (uint256 i = 0; i < ITEMS; ++i) {
            Terms memory t = _randomTerms();
            _picked.push(t);
            bool isNew = _next(8) != 0;
            if (!isNew) continue;
            vm.prank(renter);
            (isNew,) =
                address(escrow).call{value: t.token == NATIVE ? DEPOSIT : 0}(abi.encodeCall(escrow.lock, (t, DEPOSIT)));
            if (isNew && _next(5) < outOf5) _start(t, T0);
        }
    }

    function _randomTerms() private returns (Terms memory t) {
        t = _terms(_next(2) == 0 ? address(usdc) : NATIVE, bytes32(_next(5)));
        // So that an order number met again is the same terms.
        uint256 kind = uint256(t.orderHash);
        t.pricePerHour = uint96(uint256(keccak256(abi.encode(kind))) % 5_000_000 + 1);
        t.feeBps = SafeCast.toUint16(kind * 300);
        t.holdback = SafeCast.toUint32(kind % 3 * 200);
    }

    function _compare(address from, bytes memory batch) private {
        uint256 before = vm.snapshotState();
        vm.recordLogs();
        vm.prank(from);
        (bool success,) = address(escrow).call(batch);
        assertTrue(success, "a batch never reverts for an item");
        bytes32 whole = _trace();
        vm.revertToState(before);
        vm.recordLogs();
        for (uint256 i = 0; i < _singles.length; ++i) {
            vm.prank(from);
            (bool done, bytes memory reason) = address(escrow).call(_singles[i]);
            if (done) continue;
            assertEq(reason.length, 4, "the escrow's errors are their selectors");
            // forge-lint: disable-next-line(unsafe-typecast) -- its length is checked
            emit IEscrow.Skipped(_idIn(_singles[i]), bytes4(reason));
        }
        assertEq(_trace(), whole, "same events, same storage");
    }

    /// @dev All the calls begin with the terms.
    function _idIn(bytes memory input) private view returns (bytes32) {
        bytes memory arguments = new bytes(256);
        for (uint256 i = 0; i < 256; ++i) {
            arguments[i] = input[4 + i];
        }
        return escrow.hashTerms(abi.decode(arguments, (Terms)));
    }

    /// @dev Everything that the calls left behind. A refused single call's event is this test's.
    function _trace() private returns (bytes32 trace) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].emitter != address(escrow) && logs[i].emitter != address(this)) continue;
            trace = keccak256(abi.encode(trace, logs[i].topics, logs[i].data));
        }
        for (uint256 i = 0; i < _singles.length; ++i) {
            trace = keccak256(abi.encode(trace, escrow.rental(_idIn(_singles[i]))));
        }
        address[3] memory accounts = [renter, provider, treasury];
        for (uint256 i = 0; i < accounts.length; ++i) {
            for (uint256 j = 0; j < 2; ++j) {
                address token = j == 0 ? address(usdc) : NATIVE;
                uint256 held = j == 0 ? usdc.balanceOf(accounts[i]) : accounts[i].balance;
                trace = keccak256(abi.encode(trace, escrow.balanceOf(accounts[i], token), held));
            }
        }
    }

    function _next(uint256 below) private returns (uint256) {
        _seed = uint256(keccak256(abi.encode(_seed)));
        return _seed % below;
    }
}
