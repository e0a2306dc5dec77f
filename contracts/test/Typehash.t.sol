// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Escrow} from "../src/Escrow.sol";
import {Config} from "../src/Governed.sol";
import {EndSignatures, IEscrow, Status, Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";
import {Permit2Code} from "./mocks/Permit2Code.sol";
import {TestUSDC} from "./mocks/TestUSDC.sol";

/// @notice The escrow against `tools/vectors.mjs`: digests and signatures that viem made of each typed structure.
contract TypehashTest is Fixture {
    string private constant VECTORS = "../crates/escrow/tests/vectors/typed-data.json";
    /// @dev Rows of the file: of each rental `PER_CASE` in the order of `Row`, then terms for their hash alone.
    uint256 private constant CASES = 20;
    uint256 private constant PER_CASE = 9;
    uint256 private constant ROWS = 200;

    enum Row {
        Terms,
        PrepaidLock,
        EndByRenter,
        EndByProvider,
        AgreedEndByRenter,
        AgreedEndByProvider,
        Withdrawal,
        ReceiveWithAuthorization,
        PermitWitnessTransferFrom
    }

    string[] private _rows;

    function setUp() public override {
        super.setUp();
        // A row is a line: small texts are parsed much faster.
        // forge-lint: disable-next-line(unsafe-cheatcode) -- reads, in a folder that foundry.toml names
        string memory rows = vm.replace(vm.replace(vm.readFile(VECTORS), "[\n", ""), "\n]\n", "");
        _rows = vm.split(rows, ",\n");
        assertEq(_rows.length, ROWS, "rows");
    }

    /// @dev Ids, of terms at all bounds, on three chains and four contracts.
    function test_Typehash_MatchesIndependentEncoder() public {
        for (uint256 i = 0; i < CASES; ++i) {
            _assertId(_row(i, Row.Terms, "Terms"));
        }
        for (uint256 i = CASES * PER_CASE; i < ROWS; ++i) {
            _assertId(_row(i, "Terms"));
        }
    }

    /// @dev Each signature opens its rental, and one for another opens none.
    function test_Typehash_PrepaidLock() public {
        for (uint256 i = 0; i < CASES; ++i) {
            string memory row = _row(i, Row.PrepaidLock, "PrepaidLock");
            Escrow target = _target(row);
            Terms memory t = _terms(_row(i, Row.Terms, "Terms"));
            uint96 deposit = uint96(_uint(row, ".message.deposit"));
            _prepay(target, t.renter, t.token, deposit);
            bytes memory other = _signature(_row((i + 1) % CASES, Row.PrepaidLock, "PrepaidLock"));
            vm.startPrank(stranger);
            vm.expectRevert(IEscrow.BadSignature.selector);
            target.lockPrepaid(t, deposit, other);
            bytes32 id = target.lockPrepaid(t, deposit, _signature(row));
            vm.stopPrank();
            assertEq(target.rental(id).deposit, deposit, row);
        }
    }

    /// @dev Both sides' ends: with them no second is held, whatever the holdback and the credit.
    function test_Typehash_End() public {
        for (uint256 i = 0; i < CASES; ++i) {
            string memory row = _row(i, Row.EndByRenter, "End");
            Escrow target = _target(row);
            Terms memory t = _terms(_row(i, Row.Terms, "Terms"));
            bytes32 id = _activate(target, i);
            EndSignatures memory signed = _signatures(row, _row(i, Row.EndByProvider, "End"));
            uint40 stoppedAt = uint40(_uint(row, ".message.stoppedAt"));
            uint32 creditSecs = uint32(_uint(row, ".message.creditSecs"));
            vm.warp(stoppedAt);
            vm.startPrank(operator);
            vm.expectRevert(IEscrow.BadSignature.selector);
            target.close(t, stoppedAt, creditSecs, EndSignatures(signed.provider, signed.renter));
            target.close(t, stoppedAt, creditSecs, signed);
            vm.stopPrank();
            _assertEnded(target, id, row);
        }
    }

    function test_Typehash_AgreedEnd() public {
        for (uint256 i = 0; i < CASES; ++i) {
            string memory row = _row(i, Row.AgreedEndByRenter, "AgreedEnd");
            Escrow target = _target(row);
            Terms memory t = _terms(_row(i, Row.Terms, "Terms"));
            bytes32 id = _activate(target, i);
            EndSignatures memory signed = _signatures(row, _row(i, Row.AgreedEndByProvider, "AgreedEnd"));
            uint32 billed = uint32(_uint(row, ".message.billedSecs"));
            uint40 validUntil = uint40(_uint(row, ".message.validUntil"));
            vm.warp(_uint(_row(i, Row.EndByRenter, "End"), ".message.stoppedAt"));
            vm.startPrank(stranger);
            vm.expectRevert(IEscrow.BadSignature.selector);
            target.closeAgreed(t, billed, validUntil, EndSignatures(signed.provider, signed.renter));
            target.closeAgreed(t, billed, validUntil, signed);
            vm.stopPrank();
            _assertEnded(target, id, row);
        }
    }

    function test_Typehash_Withdrawal() public {
        for (uint256 i = 0; i < CASES; ++i) {
            string memory row = _row(i, Row.Withdrawal, "Withdrawal");
            Escrow target = _target(row);
            address account = _address(row, ".message.account");
            address token = _address(row, ".message.token");
            address to = _address(row, ".message.to");
            uint96 asked = uint96(_uint(row, ".message.amount"));
            uint256 deadline = _uint(row, ".message.deadline");
            // 0 asks for all there is.
            uint96 paid = asked == 0 ? 12_345 : asked;
            _prepay(target, account, token, paid);
            bytes memory signature = _signature(row);
            vm.expectRevert(IEscrow.BadSignature.selector);
            target.withdrawBySig(account, token, stranger, asked, deadline, signature);
            target.withdrawBySig(account, token, to, asked, deadline, signature);
            assertEq(token == NATIVE ? to.balance : TestUSDC(token).balanceOf(to), paid, row);
        }
    }

    /// @dev EIP-3009: the id that the contract hands over as the nonce is the one that the renter signed.
    function test_Typehash_ReceiveWithAuthorization() public {
        for (uint256 i = 0; i < CASES; ++i) {
            string memory row = _row(i, Row.ReceiveWithAuthorization, "ReceiveWithAuthorization");
            Escrow target = _target(row, ".message.to");
            Terms memory t = _terms(_row(i, Row.Terms, "Terms"));
            assertEq(_address(row, ".domain.verifyingContract"), t.token, "the token's own domain");
            uint96 value = uint96(_uint(row, ".message.value"));
            TestUSDC(t.token).mint(t.renter, value);
            bytes32 id = target.lockWithAuthorization(
                t, value, _uint(row, ".message.validAfter"), _uint(row, ".message.validBefore"), _signature(row)
            );
            assertEq(target.rental(id).deposit, value, row);
        }
    }

    /// @dev The witness and the type string that the contract hands to the real Permit2 give the digest that was signed.
    function test_Typehash_Permit2Witness() public {
        address permit2 = address(escrow.PERMIT2());
        vm.etch(Permit2Code.DEPLOYER, Permit2Code.DEPLOYER_CODE);
        (bool success,) = Permit2Code.DEPLOYER.call(bytes.concat(Permit2Code.SALT, Permit2Code.CREATION_CODE));
        assertTrue(success && permit2.code.length != 0, "Permit2 has its own address");
        for (uint256 i = 0; i < CASES; ++i) {
            string memory row = _row(i, Row.PermitWitnessTransferFrom, "PermitWitnessTransferFrom");
            Escrow target = _target(row, ".message.spender");
            Terms memory t = _terms(_row(i, Row.Terms, "Terms"));
            assertEq(_address(row, ".domain.verifyingContract"), permit2, "Permit2's domain");
            uint96 amount = uint96(_uint(row, ".message.permitted.amount"));
            TestUSDC(t.token).mint(t.renter, amount);
            vm.prank(t.renter);
            TestUSDC(t.token).approve(permit2, amount);
            bytes32 id = target.lockWithPermit2(
                t, amount, _uint(row, ".message.nonce"), _uint(row, ".message.deadline"), _signature(row)
            );
            assertEq(target.rental(id).deposit, amount, row);
        }
    }

    /// @dev A row, which must be what it is taken for.
    function _row(uint256 index, string memory primaryType) private view returns (string memory row) {
        row = _rows[index];
        assertEq(vm.parseJsonString(row, ".primaryType"), primaryType, row);
    }

    function _row(uint256 rental, Row row, string memory primaryType) private view returns (string memory) {
        return _row(rental * PER_CASE + uint256(row), primaryType);
    }

    function _uint(string memory row, string memory field) private pure returns (uint256) {
        return vm.parseJsonUint(row, field);
    }

    function _address(string memory row, string memory field) private pure returns (address) {
        return vm.parseJsonAddress(row, field);
    }

    function _signature(string memory row) private pure returns (bytes memory) {
        return vm.parseJsonBytes(row, ".signature");
    }

    function _signatures(string memory ofRenter, string memory ofProvider) private pure returns (EndSignatures memory) {
        return EndSignatures(_signature(ofRenter), _signature(ofProvider));
    }

    function _terms(string memory row) private pure returns (Terms memory) {
        return Terms({
            renter: _address(row, ".message.renter"),
            provider: _address(row, ".message.provider"),
            token: _address(row, ".message.token"),
            pricePerHour: uint96(_uint(row, ".message.pricePerHour")),
            feeBps: uint16(_uint(row, ".message.feeBps")),
            startBy: uint40(_uint(row, ".message.startBy")),
            holdback: uint32(_uint(row, ".message.holdback")),
            orderHash: vm.parseJsonBytes32(row, ".message.orderHash")
        });
    }

    /// @dev The escrow that the row names, on the row's chain, at the time of the lock.
    function _target(string memory row, string memory field) private returns (Escrow) {
        vm.chainId(_uint(row, ".domain.chainId"));
        vm.warp(T0);
        address target = _address(row, field);
        address token = _address(_rows[0], ".message.token");
        if (token.code.length == 0) deployCodeTo(_code("TestUSDC"), "", token);
        if (target.code.length == 0) {
            Config memory config = _config();
            config.tokens[0] = token;
            deployCodeTo(_code("Escrow"), abi.encode(config), target);
        }
        return Escrow(target);
    }

    function _target(string memory row) private returns (Escrow) {
        return _target(row, ".domain.verifyingContract");
    }

    function _code(string memory name) private view returns (string memory) {
        if (bytes(_artifacts()).length == 0) return string.concat(name, ".sol:", name);
        return string.concat(_artifacts(), "/", name, ".sol/", name, ".json");
    }

    function _prepay(Escrow target, address account, address token, uint96 amount) private {
        uint256 value = token == NATIVE ? amount : 0;
        vm.deal(stranger, value);
        if (token != NATIVE) TestUSDC(token).mint(stranger, amount);
        vm.startPrank(stranger);
        if (token != NATIVE) TestUSDC(token).approve(address(target), amount);
        target.prepay{value: value}(account, token, amount);
        vm.stopPrank();
    }

    /// @dev Rental `i`, locked and started.
    function _activate(Escrow target, uint256 i) private returns (bytes32 id) {
        Terms memory t = _terms(_row(i, Row.Terms, "Terms"));
        uint96 deposit = uint96(_uint(_row(i, Row.PrepaidLock, "PrepaidLock"), ".message.deposit"));
        _prepay(target, t.renter, t.token, deposit);
        vm.prank(t.renter);
        id = target.lockPrepaid(t, deposit, "");
        vm.prank(operator);
        target.start(t, T0);
    }

    function _assertId(string memory row) private {
        bytes32 digest = vm.parseJsonBytes32(row, ".digest");
        Escrow target = _target(row);
        assertEq(target.hashTerms(_terms(row)), digest, row);
    }

    function _assertEnded(Escrow target, bytes32 id, string memory row) private view {
        Status status = target.rental(id).status;
        assertTrue(status == Status.None || status == Status.Closed, row);
    }
}
