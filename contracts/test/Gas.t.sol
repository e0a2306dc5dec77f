// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Change, CloseItem, EndSignatures, IEscrow, PrepaidItem, StartItem, Terms} from "../src/IEscrow.sol";
import {Permitting} from "./Permitting.sol";
import {PriceList} from "./PriceList.sol";
import {OneTransaction} from "./mocks/OneTransaction.sol";
import {Vm} from "forge-std/Vm.sol";

/// @notice What each transaction costs with the bytecode that is deployed, kept in test/gas. `npm run gas` writes the
/// files anew, `npm run gas:check` fails where a figure is another one.
/// @dev Balances that a running marketplace has (renters', providers', the treasury's) are above 0 before.
contract GasTest is Permitting, PriceList {
    uint256 private constant BATCH = 100;
    uint256 private constant PERMIT_KEY = 0xA11CE;

    uint40 private _startIn = START_IN;
    StartItem[] private _starts;
    CloseItem[] private _ends;
    Terms[] private _batch;

    function setUp() public override {
        super.setUp();
        _warm(provider, address(usdc));
        _warm(provider, NATIVE);
    }

    function test_LockErc20() public {
        _measure("lock ERC-20", renter, abi.encodeCall(escrow.lock, (_terms(), DEPOSIT)));
    }

    function test_LockNative() public {
        bytes memory input = abi.encodeCall(escrow.lock, (_terms(NATIVE, "native"), DEPOSIT));
        _measure("lock native", 1, renter, address(escrow), DEPOSIT, input);
    }

    function test_LockWithPermit() public {
        Terms memory t = _terms();
        t.renter = vm.addr(PERMIT_KEY);
        usdc.mint(t.renter, 2 * DEPOSIT);
        bytes32 permit = keccak256(
            abi.encode(
                keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
                t.renter,
                address(escrow),
                uint256(DEPOSIT),
                uint256(0),
                uint256(T0)
            )
        );
        bytes32 digest = keccak256(abi.encodePacked("\x19\x01", usdc.DOMAIN_SEPARATOR(), permit));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(PERMIT_KEY, digest);
        _measure("lock permit", t.renter, abi.encodeCall(escrow.lockWithPermit, (t, DEPOSIT, T0, v, r, s)));
    }

    function test_LockWithAuthorization() public {
        Terms memory t = _terms();
        bytes32 digest = _typedIn(
            usdc.DOMAIN_SEPARATOR(),
            "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)",
            abi.encode(
                renter, address(escrow), uint256(DEPOSIT), uint256(0), uint256(T0 + 1 hours), escrow.hashTerms(t)
            )
        );
        bytes memory signature = _signature(_key("renter"), digest);
        _measure(
            "lock 3009",
            stranger,
            abi.encodeCall(escrow.lockWithAuthorization, (t, DEPOSIT, 0, T0 + 1 hours, signature))
        );
    }

    function test_LockWithPermit2() public {
        _deployPermit2();
        vm.prank(renter);
        usdc.approve(address(PERMIT2), type(uint256).max);
        Terms memory t = _terms();
        bytes memory signature = _signature(_key("renter"), _permitDigest(t, DEPOSIT, 0, T0 + 1 hours));
        _measure(
            "lock Permit2", stranger, abi.encodeCall(escrow.lockWithPermit2, (t, DEPOSIT, 0, T0 + 1 hours, signature))
        );
    }

    function test_Prepay() public {
        _measure("prepay ERC-20", renter, abi.encodeCall(escrow.prepay, (provider, address(usdc), DEPOSIT)));
    }

    function test_LockPrepaid() public {
        _prepay(renter, address(usdc), 2 * DEPOSIT);
        Terms memory t = _terms();
        bytes memory signature = _signature(_key("renter"), _prepaidDigest(t, DEPOSIT));
        _measure("lock prepaid", stranger, abi.encodeCall(escrow.lockPrepaid, (t, DEPOSIT, signature)));
    }

    function test_LockBatch() public {
        PrepaidItem[] memory items = new PrepaidItem[](escrow.MAX_SIGNED_BATCH());
        for (uint256 i = 0; i < items.length; ++i) {
            string memory name = string.concat("renter", vm.toString(i));
            Terms memory t = _terms(address(usdc), bytes32(i));
            t.renter = makeAddr(name);
            _prepay(t.renter, address(usdc), 2 * DEPOSIT);
            items[i] = PrepaidItem(t, DEPOSIT, _signature(_key(name), _prepaidDigest(t, DEPOSIT)));
        }
        vm.recordLogs();
        _measureBatch("lockBatch, each", items.length, stranger, abi.encodeCall(escrow.lockBatch, (items)));
    }

    function test_TopUpErc20() public {
        Terms memory t = _terms();
        _activate(t, DEPOSIT);
        _measure("topUp ERC-20", renter, abi.encodeCall(escrow.topUp, (t, DEPOSIT)));
    }

    function test_Start() public {
        Terms memory t = _terms();
        _lock(t, DEPOSIT);
        _measure("start", operator, abi.encodeCall(escrow.start, (t, T0)));
    }

    function test_Release() public {
        Terms memory t = _running(address(usdc));
        _measure("release", stranger, abi.encodeCall(escrow.release, (t)));
    }

    function test_CloseErc20() public {
        Terms memory t = _running(address(usdc));
        _measure("close ERC-20", operator, abi.encodeCall(escrow.close, (t, T0 + 1 hours, 0, EndSignatures("", ""))));
    }

    function test_CloseNative() public {
        Terms memory t = _running(NATIVE);
        _measure("close native", operator, abi.encodeCall(escrow.close, (t, T0 + 1 hours, 0, EndSignatures("", ""))));
    }

    function test_StopByRenter() public {
        Terms memory t = _running(address(usdc));
        _measure("stop by renter", renter, abi.encodeCall(escrow.stop, (t)));
    }

    function test_Contest() public {
        Terms memory t = _held(false);
        _measure("contest", renter, abi.encodeCall(escrow.contest, (t, 300)));
    }

    function test_CloseHeld() public {
        Terms memory t = _held(false);
        EndSignatures memory none;
        _measure("close ERC-20, holdback held", operator, abi.encodeCall(escrow.close, (t, _now(), 0, none)));
    }

    function test_CloseSigned() public {
        Terms memory t = _held(false);
        bytes memory signature = _signature(_key("renter"), _endDigest(t, _now(), 0));
        _measure(
            "close ERC-20, signed by the renter",
            operator,
            abi.encodeCall(escrow.close, (t, _now(), 0, EndSignatures(signature, "")))
        );
    }

    function test_CloseAgreed() public {
        Terms memory t = _held(false);
        bytes32 digest = _agreedDigest(t, 500, _now());
        EndSignatures memory both =
            EndSignatures(_signature(_key("renter"), digest), _signature(_key("provider"), digest));
        _measure("close by agreement", stranger, abi.encodeCall(escrow.closeAgreed, (t, 500, _now(), both)));
    }

    function test_Dispute() public {
        Terms memory t = _held(true);
        _measure("dispute", renter, abi.encodeCall(escrow.dispute, (t)));
    }

    function test_Concede() public {
        Terms memory t = _held(true);
        _measure("concede", provider, abi.encodeCall(escrow.concede, (t)));
    }

    function test_Resolve() public {
        Terms memory t = _held(true);
        vm.prank(renter);
        escrow.dispute(t);
        _measure("resolve", arbiter, abi.encodeCall(escrow.resolve, (t, 300)));
    }

    function test_Finalize() public {
        Terms memory t = _held(true);
        skip(24 hours + 1);
        _measure("finalize", stranger, abi.encodeCall(escrow.finalize, (t)));
    }

    function test_Cancel() public {
        Terms memory t = _terms();
        _lock(t, DEPOSIT);
        _measure("cancel", provider, abi.encodeCall(escrow.cancel, (t)));
    }

    function test_Reclaim() public {
        Terms memory t = _terms();
        _lock(t, DEPOSIT);
        skip(1 days);
        _measure("reclaim", renter, abi.encodeCall(escrow.reclaim, (t)));
    }

    function test_WithdrawErc20() public {
        usdc.mint(provider, 1);
        _measure("withdraw ERC-20", provider, abi.encodeCall(escrow.withdraw, (address(usdc), provider, 100)));
    }

    function test_WithdrawNative() public {
        vm.deal(provider, 1);
        _measure("withdraw native", provider, abi.encodeCall(escrow.withdraw, (NATIVE, provider, 100)));
    }

    function test_WithdrawBySig() public {
        usdc.mint(provider, 1);
        bytes32 digest = _withdrawalDigest(provider, address(usdc), provider, 100, 0, T0);
        bytes memory signature = _signature(_key("provider"), digest);
        _measure(
            "withdraw by signature",
            stranger,
            abi.encodeCall(escrow.withdrawBySig, (provider, address(usdc), provider, 100, T0, signature))
        );
    }

    function test_StartBatch() public {
        _lockBatch(address(usdc), BATCH);
        _measureBatch("startBatch 100, each", abi.encodeCall(escrow.startBatch, (_starts)));
    }

    function test_ReleaseBatch() public {
        _runBatch(address(usdc), BATCH);
        _measureBatch("releaseBatch 100, each", abi.encodeCall(escrow.releaseBatch, (_batch)));
    }

    function test_CloseBatch_100Renters_100Providers() public {
        _runBatch(address(usdc), BATCH);
        _measureBatch("closeBatch 100 x 100, each", abi.encodeCall(escrow.closeBatch, (_ends, new EndSignatures[](0))));
    }

    function test_CloseBatch_100Renters_10Providers() public {
        _runBatch(address(usdc), 10);
        _measureBatch("closeBatch 100 x 10, each", abi.encodeCall(escrow.closeBatch, (_ends, new EndSignatures[](0))));
    }

    function test_CloseBatch_Native() public {
        _runBatch(NATIVE, BATCH);
        _measureBatch(
            "closeBatch 100 x 100 native, each", abi.encodeCall(escrow.closeBatch, (_ends, new EndSignatures[](0)))
        );
    }

    function test_FinalizeBatch() public {
        _runBatch(address(usdc), BATCH);
        for (uint256 i = 0; i < BATCH; ++i) {
            _close(_batch[i], _now(), 60);
        }
        skip(24 hours + 1);
        vm.recordLogs();
        _measureBatch("finalizeBatch 100, each", abi.encodeCall(escrow.finalizeBatch, (_batch)));
    }

    /// @dev Rentals of less than the 10 minutes that a start may be dated back, by an operator that is a contract, after
    /// the second up to which they could be locked: as in the other batches their slots are freed.
    function test_StartAndClose_OneTransaction() public {
        _startIn = 100;
        _lockBatch(address(usdc), BATCH);
        OneTransaction batcher = new OneTransaction(address(escrow));
        _enact(Change.AddOperator, address(batcher));
        for (uint256 i = 0; i < BATCH; ++i) {
            _ends[i].stoppedAt = _now() + 500;
        }
        skip(500);
        vm.recordLogs();
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(escrow.startBatch, (_starts));
        calls[1] = abi.encodeCall(escrow.closeBatch, (_ends, new EndSignatures[](0)));
        _measure(
            "start and close in one batch of 100, each",
            BATCH,
            stranger,
            address(batcher),
            0,
            abi.encodeCall(batcher.run, (calls))
        );
        _assertNoneSkipped();
    }

    function _artifacts() internal pure override returns (string memory) {
        return "out-release";
    }

    function _measure(string memory name, address from, bytes memory input) private {
        _measure(name, 1, from, address(escrow), 0, input);
    }

    function _measureBatch(string memory name, bytes memory input) private {
        _measureBatch(name, BATCH, operator, input);
    }

    function _measureBatch(string memory name, uint256 items, address from, bytes memory input) private {
        _measure(name, items, from, address(escrow), 0, input);
        _assertNoneSkipped();
    }

    function _assertNoneSkipped() private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            assertNotEq(logs[i].topics[0], IEscrow.Skipped.selector, "no item skipped");
        }
    }

    /// @dev A rental that has run for an hour.
    function _running(address token) private returns (Terms memory t) {
        t = _terms(token, "running");
        _activate(t, DEPOSIT);
        skip(1 hours);
    }

    /// @dev A rental with a holdback that has run for an hour, and may be closed.
    function _held(bool isClosed) private returns (Terms memory t) {
        t = _terms(address(usdc), "held");
        t.holdback = 600;
        _activate(t, DEPOSIT);
        skip(1 hours);
        if (isClosed) _close(t, _now(), 0);
    }

    function _lockBatch(address token, uint256 providers) private {
        for (uint256 i = 0; i < BATCH; ++i) {
            Terms memory t = _terms(token, keccak256(abi.encode(i)));
            t.renter = makeAddr(string.concat("renter", vm.toString(i)));
            t.provider = makeAddr(string.concat("provider", vm.toString(i % providers)));
            t.startBy = _now() + _startIn;
            _fund(t.renter, usdc, 1e12);
            vm.deal(t.renter, 1e24);
            if (i < providers) _warm(t.provider, token);
            _lock(t, DEPOSIT);
            _batch.push(t);
            _starts.push(StartItem(t, _now()));
            _ends.push(CloseItem(t, _now() + 1 hours, 0));
        }
        vm.recordLogs();
    }

    function _runBatch(address token, uint256 providers) private {
        _lockBatch(token, providers);
        vm.prank(operator);
        escrow.startBatch(_starts);
        skip(1 hours);
        vm.recordLogs();
    }

    /// @dev Gives `account` and the treasury a balance.
    function _warm(address account, address token) private {
        Terms memory t = _terms(token, keccak256(abi.encode("warm", account)));
        t.provider = account;
        _activate(t, DEPOSIT);
        _close(t, _now(), 0);
        assertGt(escrow.balanceOf(account, token), 0, "warm");
    }
}
